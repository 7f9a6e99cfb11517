"""A script of the worker's own: its arguments are JSON on standard input, its result is a file."""

import json
import os
import sys

args = json.load(sys.stdin)
pages = args.get("pages", 3)
with open(os.environ["COUNTERSIGN_PROGRESS"], "w", buffering=1) as progress:
    for page in range(1, pages + 1):
        print(f"page {page} of {args['name']}", flush=True)
        print(page / pages, f"page {page}", file=progress)
with open(os.environ["COUNTERSIGN_RESULT"], "w") as result:
    json.dump({"title": f"Report {args['name']}", "pages": pages}, result)

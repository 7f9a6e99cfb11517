"""Runs a script that was sent: `input` is its input, and what it leaves in `result` is the command's result."""

import json
import os
import sys

args = json.load(sys.stdin)
names = {"__name__": "__main__", "input": args.get("input")}
exec(compile(args["script"], "<script>", "exec"), names)
if "result" in names:
    with open(os.environ["COUNTERSIGN_RESULT"], "w") as result:
        json.dump(names["result"], result)

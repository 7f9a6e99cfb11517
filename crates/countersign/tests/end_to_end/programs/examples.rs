//! The examples that people begin with.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use super::{Workshop, ended, eventually, folder, running};
use crate::fleet::Fleet;

/// Copies the examples, so that nobody but their owner may write to them, whatever the checkout allows.
pub fn copy_examples(to: &Path) {
    fs::set_permissions(to, Permissions::from_mode(0o755)).unwrap();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/commands.d")).unwrap() {
        let entry = entry.unwrap();
        super::write(&to.join(entry.file_name()), fs::read(entry.path()).unwrap(), 0o644);
    }
}

/// A worker with the examples.
fn examples() -> Workshop {
    let fleet = Fleet::new();
    let to = folder(&fleet);
    super::define(&to, &[]);
    copy_examples(&to);
    fleet.run(&["commands", "check", "commands.d"]).exits(0);
    let worker = super::client(&fleet);
    fleet.run(&["start", "worker-1"]).exits(0);
    Workshop { fleet, worker }
}

fn script(shop: &Workshop, script: &str, input: &Value) -> Value {
    shop.call("python_script", &json!({ "script": script, "input": input }))
}

#[test]
fn a_report_has_validated_arguments_output_progress_and_a_result() {
    let shop = examples();
    let report = shop.call("report", &json!({ "name": "q3", "pages": 2 }));
    assert_eq!(report["result"]["value"], json!({ "title": "Report q3", "pages": 2 }), "{report}");
    assert_eq!(report["result"]["stdout"]["text"], "page 1 of q3\npage 2 of q3\n");
    assert_eq!(shop.call("report", &json!({ "name": "../etc" }))["error"]["code"], "invalid_args");
}

#[test]
fn disk_usage_is_ten_lines_of_shell() {
    let usage = examples().call("disk_usage", &json!({}));
    assert!(usage["result"]["value"]["total"].as_i64() > usage["result"]["value"]["available"].as_i64(), "{usage}");
}

#[test]
fn a_script_that_was_sent_computes_crashes_eats_memory_or_never_ends_each_with_its_verdict() {
    let shop = examples();
    let computed = script(&shop, "result = {'sum': sum(input)}\nprint('added')", &json!([1, 2, 3]));
    assert_eq!(computed["result"]["value"], json!({ "sum": 6 }), "{computed}");
    assert_eq!(computed["result"]["stdout"]["text"], "added\n");

    let crashed = script(&shop, "raise ValueError('no such page')", &Value::Null);
    let details = &crashed["error"]["details"];
    assert_eq!((ended(&crashed).1, &details["exit_code"]), (&json!("exit_code"), &json!(1)));
    assert!(details["stderr"]["text"].as_str().unwrap().contains("ValueError: no such page"), "{crashed}");

    if super::confined::is_possible() {
        let text = fs::read_to_string(folder(&shop.fleet).join("python_script.toml")).unwrap();
        super::define(&folder(&shop.fleet), &[("confined", &format!("{text}read_only = true\n"))]);
        shop.worker.signal(crate::process::Signal::HUP);
        let script = "open('own', 'w').write('x')\nimport json, sys\nresult = sys.version";
        let computed = eventually("it is a command", || {
            let computed = shop.call("confined", &json!({ "script": script }));
            (computed["error"]["code"] != "unknown_command").then_some(computed)
        });
        assert!(computed["result"]["value"].is_string(), "{computed}");
    }

    let hungry = script(&shop, "x = []\nwhile True: x.append(bytearray(10_000_000))", &Value::Null);
    assert!(hungry["error"]["details"]["stderr"]["text"].as_str().unwrap().contains("MemoryError"), "{hungry}");

    let endless =
        "import subprocess, time\nsubprocess.Popen(['sleep', '4020.1'])\nprint('begun', flush=True)\ntime.sleep(4020)";
    let waiting = shop.spawn("python_script", &json!({ "script": endless }));
    eventually("its child runs", || (!running("4020.1").is_empty()).then_some(()));
    let timed_out = waiting.wait().of("worker-1");
    assert_eq!(ended(&timed_out), ("failed".to_owned(), &json!("timed_out")), "{timed_out}");
    assert_eq!(timed_out["error"]["details"]["stdout"]["text"], "begun\n");
    assert_eq!(running("4020.1"), [""; 0], "with its grandchildren");
}

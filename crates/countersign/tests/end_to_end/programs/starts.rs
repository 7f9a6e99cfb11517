//! Programs that cannot be started, and why.

use std::fs::{self, File};

use serde_json::json;

use super::{Workshop, ended, eventually, shell, write};

#[test]
fn what_cannot_be_started_is_told_in_words_and_never_run_by_a_shell() {
    let shop = Workshop::of(&[]);
    let path = |name: &str| shop.fleet.path().join(name);
    write(&path("crlf"), "#!/bin/sh\r\nexit 0\r\n", 0o755);
    write(&path("bare"), format!("touch {}\n", path("ran").display()), 0o755);
    write(&path("closed"), "#!/bin/sh\nexit 0\n", 0o644);
    fs::create_dir(path("folder")).unwrap();
    let cases = [
        ("crlf", "the interpreter `/bin/sh\\r`"),
        ("bare", "neither a program of this system nor a script"),
        ("closed", "has no x"),
        ("folder", "is a folder"),
        ("missing", "does not exist"),
    ];
    let definitions = cases.map(|(name, _)| (name, format!("program = [\"{}\"]\n", path(name).display())));
    let definitions: Vec<_> = definitions.iter().map(|(name, text)| (*name, text.as_str())).collect();
    super::define(&super::folder(&shop.fleet), &definitions);
    let Workshop { fleet, worker } = shop;
    worker.printed();
    let worker = super::client(&fleet);
    fleet.run(&["start", "worker-1"]).exits(0);
    let shop = Workshop { fleet, worker };
    let checked = shop.fleet.run(&["commands", "check", "commands.d"]).exits(1).stderr;
    for (name, words) in cases {
        let failed = shop.call(name, &json!({}));
        assert_eq!(ended(&failed), ("failed".to_owned(), &json!("not_started")), "{failed}");
        let message = failed["error"]["message"].as_str().unwrap();
        assert!(message.contains(words) && checked.contains(words), "{name}: {message}\n{checked}");
    }
    assert!(!shop.fleet.path().join("ran").exists());
}

#[test]
fn a_file_that_is_being_written_is_tried_again_for_a_second() {
    let shop = Workshop::of(&[]);
    let path = shop.fleet.path().join("fresh.sh");
    write(&path, "#!/bin/sh\necho fresh\n", 0o755);
    super::define(&super::folder(&shop.fleet), &[("run", &format!("program = [\"{}\"]\n", path.display()))]);
    let Workshop { fleet, worker } = shop;
    worker.printed();
    let temporary = fleet.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let mut client = fleet.command(&["client", "--name", "worker-1", "--commands", "commands.d"]);
    client.env("TMPDIR", &temporary);
    let worker = fleet.client_as("worker-1", client);
    fleet.run(&["start", "worker-1"]).exits(0);
    let shop = Workshop { fleet, worker };
    let writing = File::options().append(true).open(&path).unwrap();
    let busy = shop.run();
    assert_eq!(ended(&busy), ("failed".to_owned(), &json!("not_started")), "{busy}");
    assert!(busy["error"]["message"].as_str().unwrap().contains("Text file busy"), "{busy}");
    let waiting = shop.spawn("run", &json!({}));
    // Its folder is made just before it is started.
    eventually("it is tried", || fs::read_dir(&temporary).unwrap().next()).unwrap();
    drop(writing);
    assert_eq!(waiting.wait().of("worker-1")["result"]["stdout"]["text"], "fresh\n");
}

#[test]
fn nothing_is_held_up_by_a_program_that_reads_its_input_late_or_never() {
    let never = shell("exit 3", super::ANY_X);
    let late = shell("head -c 1048576 /dev/zero; wc -c", super::ANY_X);
    let shop = Workshop::of(&[("never", &never), ("late", &late)]);
    let args = json!({ "x": "a".repeat(200_000) });
    for _ in 0..10 {
        let failed = shop.call("never", &args);
        assert_eq!(failed["error"]["details"]["exit_code"], 3, "{failed}");
    }
    let read = shop.call("late", &args);
    let told = format!("{}\n", args.to_string().len());
    assert_eq!(read["result"]["stdout"]["bytes"], 1_048_576 + told.len(), "{read}");
    assert!(read["result"]["stdout"]["text"].as_str().unwrap().ends_with(&told));
}

//! What programs write, return and report.

use std::fs::{self, File};

use countersign_protocol::digest::{Digest, Digester};
use serde_json::json;

use super::{ANY_X, Workshop, ended, eventually, shell};
use crate::fleet::Fleet;
use crate::process::Process;
use crate::pty::Pty;

#[test]
fn bytes_that_are_no_text_are_counted_and_digested_as_they_are() {
    let shop = Workshop::script(r"printf 'caf\351 \377\0x\n'", "");
    let stdout = shop.run()["result"]["stdout"].clone();
    let digest = Digest::of(b"caf\xe9 \xff\0x\n").to_string();
    assert_eq!((&stdout["bytes"], &stdout["sha256"], &stdout["exact"]), (&json!(9), &json!(digest), &json!(false)));
}

#[test]
fn much_output_leaves_the_client_small_and_its_digest_right() {
    const SIZE: usize = 200_000_000;
    let shop = Workshop::script(&format!("head -c {SIZE} /dev/zero"), "max_output = \"1MiB\"");
    let before = shop.worker.peak_memory();
    // Follows, and reads nothing.
    let (_unread, stdout) = std::io::pipe().unwrap();
    let mut slow = shop.fleet.command(&["call", "worker-1", "run", "--follow"]);
    let mut slow = slow.stdout(stdout).stderr(std::process::Stdio::null()).spawn().unwrap();
    let jobs = [(); 4].map(|()| shop.spawn("run", &json!({})));
    shop.fleet.run(&["ping", "worker-1"]).exits(0);
    let mut digester = Digester::default();
    let zeros = vec![0; 1_000_000];
    (0..SIZE / zeros.len()).for_each(|_| digester.update(&zeros));
    for job in jobs {
        let stdout = job.wait().of("worker-1")["result"]["stdout"].clone();
        assert_eq!((&stdout["bytes"], &stdout["sha256"]), (&json!(SIZE), &json!(digester.digest())), "{stdout}");
        assert!(stdout["kept"].is_object(), "{stdout}");
    }
    slow.kill().unwrap();
    slow.wait().unwrap();
    let grown = shop.worker.peak_memory() - before;
    assert!(grown < 20 << 20, "{grown} bytes");
}

#[test]
fn the_last_line_of_long_output_comes_with_the_failure() {
    let script = "yes 'a harmless line' | head -c 10000000; echo; echo 'Error: disk 7 is gone'; exit 1";
    let shop = Workshop::script(script, "max_output = \"1MiB\"");
    let failed = shop.run();
    let text = failed["error"]["details"]["stdout"]["text"].as_str().unwrap();
    assert!(text.ends_with("\nError: disk 7 is gone\n"), "{text}");
    let shown = shop.fleet.run(&["call", "worker-1", "run"]).exits(1).stdout;
    assert!(shown.contains("Error: disk 7 is gone\n"), "{shown}");
}

#[test]
fn a_result_is_taken_only_as_strict_json_that_its_schema_accepts() {
    let write = shell(
        "sed 's/^{\"x\":\"//; s/\"}$//; s/\\\\\"/\"/g' > $COUNTERSIGN_RESULT",
        &format!("{ANY_X}\nresult = {{ type = \"object\", properties = {{ a = {{ type = \"number\" }} }} }}"),
    );
    let none = shell("true", "result = {}");
    let link = shell("ln -s /etc/passwd $COUNTERSIGN_RESULT", "");
    let fifo = shell("mkfifo $COUNTERSIGN_RESULT", "");
    let large = shell("head -c 50000000 /dev/zero > $COUNTERSIGN_RESULT; echo still here", "");
    let shop = Workshop::of(&[("write", &write), ("none", &none), ("link", &link), ("fifo", &fifo), ("large", &large)]);
    let good = shop.call("write", &json!({ "x": "{\"a\":9007199254740991}" }));
    assert_eq!(good["result"]["value"], json!({ "a": 9_007_199_254_740_991_i64 }), "{good}");
    for (text, why) in [
        ("{\"a\":NaN}", "at byte 5"),
        ("{\"a\":1} x", "at byte 8"),
        ("{\"a\":1,\"a\":2}", "the member `a` twice, at byte"),
        ("{\"a\":9007199254740993}", "2^53"),
        ("", "at byte 0"),
        ("{\"a\":\"1\"}", "/a"),
        ("[1]", "object"),
    ] {
        let failed = shop.call("write", &json!({ "x": text }));
        assert_eq!(ended(&failed), ("failed".to_owned(), &json!("result")), "{text}: {failed}");
        assert!(failed["error"]["message"].as_str().unwrap().contains(why), "{text}: {failed}");
        assert_eq!(failed["error"]["details"]["exit_code"], 0);
    }
    for (name, why) in [
        ("none", "wrote none"),
        ("link", "not a regular file"),
        ("fifo", "not a regular file"),
        ("large", "longer than"),
    ] {
        let failed = shop.call(name, &json!({}));
        assert_eq!(ended(&failed), ("failed".to_owned(), &json!("result")), "{name}: {failed}");
        assert!(failed["error"]["message"].as_str().unwrap().contains(why), "{name}: {failed}");
    }
    let large = shop.call("large", &json!({}));
    assert_eq!(large["error"]["details"]["stdout"]["text"], "still here\n");
}

#[test]
fn progress_is_a_line_of_a_fraction_and_a_message() {
    let shop = Workshop::script("echo '0.5 half done' > $COUNTERSIGN_PROGRESS; sleep 4010.1", "");
    let mut waiting = shop.fleet.spawn(&["call", "worker-1", "run", "-o", "ndjson", "--timeout", "60s"]);
    let line = waiting.stdout.wait_for("half done");
    let reply: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert!(line.contains("0.5"), "{reply}");
    shop.fleet.run(&["terminate", "worker-1"]).exits(0);
    waiting.wait().exits(1);
}

#[test]
fn what_a_program_wrote_is_read_into_a_file_exactly_and_fits_its_final_reply() {
    let shop = Workshop::script(r"printf 'caf\351 \377\0x\n'; echo oh >&2; exit 3", "");
    let id = shop.detached();
    let path = shop.fleet.path().join("output");
    let mut command = shop.fleet.command(&["output", "worker-1", &id, "--follow"]);
    let status = command.stdout(File::create(&path).unwrap()).status().unwrap();
    assert!(status.success() && fs::read(path).unwrap() == b"caf\xe9 \xff\0x\n");
    assert_eq!(shop.fleet.run(&["output", "worker-1", &id, "--stderr"]).exits(0).stdout, "oh\n");
}

#[test]
fn what_a_program_wrote_beyond_its_bound_is_named_as_missing() {
    let shop = Workshop::script("head -c 300000 /dev/zero; echo end", "max_output = \"100KiB\"");
    let ran = shop.fleet.run(&["call", "worker-1", "run", "-o", "json"]).exits(0).json();
    let read = shop.fleet.run(&["output", "worker-1", ran["command_id"].as_str().unwrap()]).exits(1);
    assert!(read.stdout.len() == 100 * 1024 && read.stdout.ends_with("\0end\n"));
    let told = "stdout is not complete: 197604 of 300004 bytes are not kept; what is kept has the digest that the client signed";
    assert!(read.stderr.contains(told), "{}", read.stderr);
}

/// Three clients that are ready, each with `run`.
fn three(definition: &str) -> (Fleet, [Process; 3]) {
    let names = ["worker-1", "worker-2", "worker-3"];
    let fleet = Fleet::of(&names);
    super::define(&super::folder(&fleet), &[("run", definition)]);
    let workers = names.map(|name| {
        let client = ["client", "--name", name, "--commands", "commands.d", "--skew", "0s"];
        fleet.client_as(name, fleet.command(&client))
    });
    fleet.run(&["start", "@all"]).exits(0);
    (fleet, workers)
}

#[test]
fn each_dot_of_a_line_is_shown_before_the_next_is_written_by_one_and_by_three_clients_on_a_terminal_and_in_a_pipe() {
    let gate = tempfile::tempdir().unwrap();
    let script = format!(
        "cd {}; for i in 1 2 3 4 5; do printf .; until [ -e $i ]; do sleep 0.05; done; done; echo",
        gate.path().display()
    );
    let (fleet, _workers) = three(&shell(&script, ""));
    let go = |dot: usize| fs::write(gate.path().join(dot.to_string()), "").unwrap();
    for targets in [&["worker-1"][..], &["worker-1", "worker-2", "worker-3"]] {
        let words = [&["call"], targets, &["run", "--follow"]].concat();
        let dots = |text: &str| text.matches('.').count();
        let mut terminal = Pty::spawn(&fleet.command(&words));
        for dot in 1..=5 {
            terminal.wait_until("dot of each", |screen| dots(screen) == dot * targets.len());
            go(dot);
        }
        assert_eq!(terminal.wait().0, Some(0));
        (1..=5).for_each(|dot| fs::remove_file(gate.path().join(dot.to_string())).unwrap());

        let path = fleet.path().join("output");
        let mut command = fleet.command(&words);
        let mut following = command.stdout(File::create(&path).unwrap()).spawn().unwrap();
        for dot in 1..=5 {
            let shown = || dots(&fs::read_to_string(&path).unwrap()) == dot * targets.len();
            eventually("the dot of each is there", || shown().then_some(()));
            go(dot);
        }
        assert!(following.wait().unwrap().success());
        (1..=5).for_each(|dot| fs::remove_file(gate.path().join(dot.to_string())).unwrap());
    }
}

#[test]
fn a_line_without_its_end_is_there_before_the_program_ends() {
    let gate = tempfile::tempdir().unwrap();
    let go = gate.path().join("go");
    let shop = Workshop::script(&format!("printf ...; until [ -e {} ]; do sleep 0.1; done; echo .", go.display()), "");
    let path = shop.fleet.path().join("output");
    let mut command = shop.fleet.command(&["call", "worker-1", "run", "--follow"]);
    let mut following = command.stdout(File::create(&path).unwrap()).spawn().unwrap();
    eventually("the dots are there", || (fs::read(&path).unwrap() == b"...").then_some(()));
    fs::write(go, "").unwrap();
    assert!(following.wait().unwrap().success());
    assert!(fs::read(path).unwrap().starts_with(b"....\nworker-1: "));
}

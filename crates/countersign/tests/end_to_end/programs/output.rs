//! What programs write, return and report.

use countersign_protocol::digest::{Digest, Digester};
use serde_json::json;

use super::{ANY_X, Workshop, ended, shell};

#[test]
fn bytes_that_are_no_text_are_counted_and_digested_as_they_are() {
    let shop = Workshop::script(r"printf 'caf\351 \377\0x\n'", "");
    let stdout = shop.run()["result"]["stdout"].clone();
    let digest = Digest::of(b"caf\xe9 \xff\0x\n").to_string();
    assert_eq!((&stdout["bytes"], &stdout["sha256"], &stdout["exact"]), (&json!(9), &json!(digest), &json!(false)));
}

#[test]
fn much_output_leaves_the_client_small_and_its_digest_right() {
    const SIZE: usize = 50_000_000;
    let shop = Workshop::script(&format!("head -c {SIZE} /dev/zero"), "max_output = \"1MiB\"");
    let before = shop.worker.peak_memory();
    let jobs = [(); 2].map(|()| shop.spawn("run", &json!({})));
    shop.fleet.run(&["ping", "worker-1"]).exits(0);
    let mut digester = Digester::default();
    let zeros = vec![0; 1_000_000];
    (0..SIZE / zeros.len()).for_each(|_| digester.update(&zeros));
    for job in jobs {
        let stdout = job.wait().of("worker-1")["result"]["stdout"].clone();
        assert_eq!((&stdout["bytes"], &stdout["sha256"]), (&json!(SIZE), &json!(digester.digest())), "{stdout}");
        assert!(stdout["kept"].is_object(), "{stdout}");
    }
    let grown = shop.worker.peak_memory() - before;
    assert!(grown < 20 << 20, "{grown} bytes");
}

#[test]
fn the_last_line_of_long_output_comes_with_the_failure() {
    let script = "yes 'a harmless line' | head -c 3000000; echo; echo 'Error: disk 7 is gone'; exit 1";
    let failed = Workshop::script(script, "").run();
    let text = failed["error"]["details"]["stdout"]["text"].as_str().unwrap();
    assert!(text.ends_with("\nError: disk 7 is gone\n"), "{text}");
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

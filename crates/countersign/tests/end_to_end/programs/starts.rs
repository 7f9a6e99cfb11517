//! Programs that cannot be started, and why.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::json;

use super::{Workshop, ended, eventually, shell, write};
use crate::fleet::Fleet;
use crate::process::Process;

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
    let read = shop.call("late", &args);
    let told = format!("{}\n", args.to_string().len());
    assert_eq!(read["result"]["stdout"]["bytes"], 1_048_576 + told.len(), "{read}");
    assert!(read["result"]["stdout"]["text"].as_str().unwrap().ends_with(&told));

    let script = "call worker-1 never --args-file args.json\n".repeat(50);
    let ran = Process::spawn_with(shop.fleet.command(&["server", "-o", "ndjson"]), &script).wait().exits(1);
    let failed = ran.lines().into_iter().filter(|line| line["verdict"] == "failed").collect::<Vec<_>>();
    assert_eq!(failed.len(), 50);
    assert!(failed.iter().all(|line| line["error"]["details"]["exit_code"] == 3), "{failed:?}");
}

/// Starts `worker-1` in a mount namespace of its own, where this was done first; `None` where that is not allowed.
fn in_own_mounts(fleet: &Fleet, first: &str) -> Option<Process> {
    let in_its_own = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-e", "-c", script, "sh"]).current_dir(fleet.path());
        command
    };
    let possible = in_its_own(first).stderr(Stdio::null()).status();
    if !possible.is_ok_and(|status| status.success()) {
        return None;
    }
    let client = fleet.command(&["client", "--name", "worker-1", "--commands", "commands.d"]);
    let mut command = in_its_own(&format!("{first}\nexec \"$@\""));
    command.arg(client.get_program()).args(client.get_args());
    command.env_clear().envs(client.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("TMPDIR", fleet.path().join("small"));
    let worker = fleet.client_as("worker-1", command);
    fleet.run(&["start", "worker-1"]).exits(0);
    Some(worker)
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that checks nothing says so")]
fn a_noexec_mount_a_folder_that_may_not_be_entered_a_full_disk_and_another_architecture_are_told_in_words() {
    let fleet = Fleet::new();
    fs::set_permissions(fleet.path(), PermissionsExt::from_mode(0o711)).unwrap();
    for (name, mode) in [("noexec", 0o755), ("small", 0o755), ("closed", 0o700), ("open", 0o755)] {
        fs::create_dir(fleet.path().join(name)).unwrap();
        fs::set_permissions(fleet.path().join(name), PermissionsExt::from_mode(mode)).unwrap();
    }
    let path = |name: &str| fleet.path().join(name);
    write(&path("closed/run"), "#!/bin/sh\n", 0o755);
    let mut foreign = fs::read("/bin/true").unwrap();
    foreign[18] ^= 0x55;
    write(&path("open/foreign"), foreign, 0o755);
    let program = |name: &str, rest: &str| format!("program = [\"{}\"]\n{rest}\n", path(name).display());
    let fill = shell("head -c 10000000 /dev/zero > all; echo '{}' > $COUNTERSIGN_RESULT", "");
    let definitions = [
        ("noexec", program("noexec/run", "")),
        ("closed", program("closed/run", "user = \"nobody\"")),
        ("foreign", program("open/foreign", "")),
        ("fill", fill),
        ("fine", shell("echo fine", "")),
    ];
    let definitions: Vec<_> = definitions.iter().map(|(name, text)| (*name, text.as_str())).collect();
    super::define(&super::folder(&fleet), &definitions);
    let mounts = "mount -t tmpfs -o noexec tmpfs noexec; mount -t tmpfs -o size=1m,nr_inodes=20,mode=1777 tmpfs small\n\
                  printf '#!/bin/sh\\n' > noexec/run; chmod 755 noexec/run";
    let Some(worker) = in_own_mounts(&fleet, mounts) else {
        eprintln!("not tested: only root can mount file systems and change the user of a program");
        return;
    };
    let small = PathBuf::from(format!("/proc/{}/root", worker.pid().as_raw_nonzero()));
    let small = small.join(path("small").strip_prefix("/").unwrap());
    let shop = Workshop { fleet, worker };
    let not_started = |name: &str, words: &str| {
        let failed = shop.call(name, &json!({}));
        assert_eq!(ended(&failed), ("failed".to_owned(), &json!("not_started")), "{failed}");
        assert!(failed["error"]["message"].as_str().unwrap().contains(words), "{name}: {failed}");
    };
    not_started("noexec", "is on a file system that is mounted noexec");
    not_started("closed", "/closed/run cannot be reached: this user may not enter ");
    not_started("foreign", "/open/foreign is a program for another architecture");

    // Its own folder is on the small disk, and goes with it.
    let filled = shop.call("fill", &json!({}));
    assert_eq!(ended(&filled), ("failed".to_owned(), &json!("exit_code")), "{filled}");
    let told = filled["error"]["details"]["stderr"]["text"].as_str().unwrap();
    assert!(told.contains("No space left on device"), "{filled}");
    assert_eq!(shop.call("fine", &json!({}))["result"]["stdout"]["text"], "fine\n");
    let fillers: Vec<PathBuf> = (0..).map(|number| small.join(number.to_string())).take(30).collect();
    let filled = fillers.iter().take_while(|path| File::create(path).is_ok()).count();
    assert!((1..30).contains(&filled), "{filled}");
    not_started("fine", "No space left on device");
    fillers[..filled].iter().for_each(|path| fs::remove_file(path).unwrap());
    assert_eq!(shop.call("fine", &json!({}))["result"]["stdout"]["text"], "fine\n");
}

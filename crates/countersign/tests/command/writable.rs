//! Files and folders that others may write to, and paths on which they may put another: refused by whatever relies on them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::folder::{Folder, Run, mode};

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// No broker answers there, and none is needed.
const NOWHERE: &str = "nats://127.0.0.1:1";

/// A run that reads the files of a folder.
type Program = fn(&Folder) -> Run;

fn client(folder: &Folder) -> Run {
    folder.run(&["client", "--name", "worker-1", "--state", "state", "--nats-url", NOWHERE])
}

fn operator(folder: &Folder) -> Run {
    folder.run(&["ping", "worker-1", "--nats-url", NOWHERE])
}

fn init(folder: &Folder) -> Run {
    folder.run(&["init"])
}

/// It exits with this status, and reports in three lines what is wrong with a path, which may be shown as an absolute one, and
/// what to do about it.
#[track_caller]
fn refuses(run: Run, status: i32, path: &str, what: &str, hint: &str) {
    let run = run.expect(status);
    let [first, expected, last] = run.stderr.lines().collect::<Vec<_>>()[..] else { panic!("three lines: {run:#?}") };
    let shown = first.strip_prefix("error: ").and_then(|first| first.strip_suffix(&format!(" {what}")));
    let shown = shown.unwrap_or_else(|| panic!("{what}: {run:#?}"));
    assert!(shown == path || shown.starts_with('/') && shown.ends_with(&format!("/{path}")), "{run:#?}");
    assert!(expected.starts_with("expected: ") && last.contains(&format!("{hint} {shown}")), "{run:#?}");
}

#[test]
fn init_a_client_and_an_operator_refuse_what_others_may_write_to_and_name_the_file() {
    let folder = Folder::with_keys(&["--client", "worker-1:web"]);
    let all: [(&str, &[Program]); 7] = [
        ("root.thumbprint", &[init, client, operator]),
        ("trust.json", &[init, client, operator]),
        ("operators/alice.jwt", &[init, operator]),
        ("clients/worker-1.jwt", &[init, client]),
        ("nats/accounts.conf", &[init]),
        ("", &[client, operator]),
        ("clients", &[client]),
    ];
    for (below, programs) in all {
        let path = folder.path("keys").join(below);
        let (shown, good) = (Path::new("keys").join(below), mode(&path));
        let shown = shown.display().to_string();
        let shown = shown.trim_end_matches('/');
        for more in [0o020, 0o002] {
            let bad = good | more;
            for run in programs {
                set_mode(&path, bad);
                let before = folder.files();
                let what = format!("can be written by others: its mode is {bad:04o}");
                refuses(run(&folder), 5, shown, &what, "chmod go-w");
                assert_eq!((folder.files(), mode(&path)), (before, bad), "nothing was changed");
            }
            set_mode(&path, good);
        }
    }
    init(&folder).expect(0);
}

#[test]
fn init_takes_the_right_of_others_from_its_own_folders() {
    let folder = Folder::with_keys(&[]);
    for below in ["", "clients", "operators", "nats"] {
        set_mode(&folder.path("keys").join(below), 0o777);
    }
    init(&folder).expect(0);
    for below in ["", "clients", "operators", "nats"] {
        assert_eq!(mode(&folder.path("keys").join(below)), 0o700, "{below}");
    }
}

#[test]
fn a_path_on_which_everybody_may_put_another_folder_leads_to_no_keys_and_no_state() {
    let folder = Folder::with_keys(&[]);
    let root = folder.path("").canonicalize().unwrap();
    let above = root.to_str().unwrap();
    let what = "can be written by others: its mode is 0757";
    set_mode(&root, 0o757);
    for run in [init, client, operator] {
        refuses(run(&folder), 5, above, what, "chmod go-w");
    }
    set_mode(&root, 0o755);

    // The same for the state, which may lie elsewhere.
    fs::create_dir_all(folder.path("open/state")).unwrap();
    set_mode(&folder.path("open"), 0o757);
    let named = ["client", "--name", "worker-1", "--state", "open/state", "--nats-url", NOWHERE];
    let claiming = ["client", "--claim", "--state", "open/state", "--nats-url", NOWHERE];
    for arguments in [&named[..], &claiming] {
        refuses(folder.run(arguments), 1, "open", what, "chmod go-w");
    }
    set_mode(&folder.path("open"), 0o755);
    let own = folder.path("open/state/worker-1");
    fs::create_dir_all(&own).unwrap();
    set_mode(&own, 0o770);
    for arguments in [&named[..], &claiming] {
        let what = "is open to others: its mode is 0770";
        refuses(folder.run(arguments), 1, "open/state/worker-1", what, "chmod 700");
    }
}

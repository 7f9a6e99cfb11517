//! What is found wrong before anything is sent: status 2, three lines at most on standard error, and nothing on standard
//! output. There is no broker in these tests, and where it matters not there are no keys either: whatever is not found
//! wrong ends with another status.

use crate::folder::{Folder, Run};

/// Runs it in an empty folder, and takes its error apart: what happened, what was expected, what to do.
#[track_caller]
fn wrong(args: &[&str]) -> [String; 3] {
    parts(&Folder::new().run(args), 2)
}

#[track_caller]
fn parts(run: &Run, status: i32) -> [String; 3] {
    assert_eq!((run.status, run.stdout.as_str()), (status, ""), "{run:#?}");
    assert!(run.stderr.lines().count() <= 3, "{run:#?}");
    let labels = ["error: ", "expected: ", "try: "];
    labels.map(|label| run.stderr.lines().find_map(|line| line.strip_prefix(label)).unwrap_or_default().to_owned())
}

const SECONDS: &str = "a number of seconds from 0 to 86400, and after it the message";
const CALCULATE: &str = "countersign calculate worker-1 2.5 \"all done\"";
const TARGET: &str = "is not the name of a client, @group or @all";
const NAME: &str = "1 to 64 of a-z, 0-9, - and _, with a letter or digit at both ends";

#[test]
fn an_unknown_subcommand_is_answered_with_the_nearest() {
    let expected =
        ["unrecognized subcommand 'pnig'", "one of those that `countersign --help` lists", "countersign ping worker-1"];
    assert_eq!(wrong(&["pnig", "worker-1"]), expected);
}

#[test]
fn an_unknown_option_is_answered_with_the_nearest() {
    let [what, _, hint] = wrong(&["ping", "--timeuot", "5s", "worker-1"]);
    assert_eq!([what, hint], ["unexpected argument '--timeuot' found", "countersign ping --timeout 5s worker-1"]);
}

#[test]
fn a_command_needs_a_target() {
    let expected = ["no target is named", "TARGET…", "countersign ping worker-1"];
    assert_eq!(wrong(&["ping"]), expected);
}

#[test]
fn options_from_the_environment_are_not_among_what_was_expected() {
    let folder = Folder::new();
    let expected = [
        "the following required arguments were not provided: <NAME>...",
        "countersign clients forget [OPTIONS] <NAME>...",
        "countersign clients forget --help",
    ];
    let mut command = folder.command(&["clients", "forget"]);
    assert_eq!(parts(&Run::of(command.env("NATS_URL", "nats://127.0.0.1:1").output().unwrap()), 2), expected);
}

#[test]
fn an_unknown_action_on_the_roster_is_answered_with_those_that_there_are() {
    let expected = [
        "unrecognized subcommand 'foo'",
        "one of those that `countersign clients --help` lists",
        "countersign clients --help",
    ];
    assert_eq!(wrong(&["clients", "foo"]), expected);
}

#[test]
fn options_without_a_command_lack_one() {
    let expected = ["no command is named", "countersign [OPTIONS] <COMMAND>", "countersign --help"];
    assert_eq!(wrong(&["--timeout", "1s"]), expected);
}

#[test]
fn an_empty_target_is_no_name() {
    assert_eq!(wrong(&["ping", ""]), [&format!("`` {TARGET}"), NAME, "countersign ping worker-1"]);
}

#[test]
fn a_name_with_a_wildcard_or_upper_case_is_none() {
    for target in ["Worker-1", "*", ">", "a.b", "-", "é", "worker 1"] {
        let [what, expected, _] = wrong(&["ping", "--", target]);
        assert_eq!([what, expected], [format!("`{target}` {TARGET}"), NAME.to_owned()]);
    }
    assert_eq!(wrong(&["ping", "@Web"])[0], "`@Web` is not the name of a group after the @");
}

#[test]
fn what_is_echoed_is_escaped_and_short() {
    let [what, ..] = wrong(&["ping", "\u{1b}[31m\u{202e}\nworker"]);
    assert_eq!(what, format!("`\\u{{1b}}[31m\\u{{202e}}\\nworker` {TARGET}"));
    let [what, ..] = wrong(&["ping", &"A".repeat(10_000)]);
    assert_eq!(what, format!("`{}…` {TARGET}", "A".repeat(63)));
}

#[test]
fn a_group_beside_other_targets_is_refused() {
    let expected = [
        "`@all` stands beside other targets",
        "the names of clients, or one @group, or @all",
        "give one command to the group and another to the rest",
    ];
    assert_eq!(wrong(&["terminate", "worker-1", "@all"]), expected);
}

#[test]
fn negative_seconds_are_refused_as_such_and_not_as_an_option() {
    assert_eq!(wrong(&["calculate", "worker-1", "-5", "done"]), ["X is `-5`, which is negative", SECONDS, CALCULATE]);
    assert_eq!(wrong(&["calculate", "worker-1", "-0.1", "done"])[0], "X is `-0.1`, which is negative");
}

#[test]
fn seconds_that_are_no_number_not_finite_or_too_many_are_refused() {
    for (x, why) in [
        ("soon", "which is not a number"),
        ("", "which is not a number"),
        ("2,5", "which is not a number"),
        ("NaN", "which is not finite"),
        ("inf", "which is not finite"),
        ("1e400", "which is not finite"),
        ("86400.001", "which is too large"),
        ("1e300", "which is too large"),
    ] {
        let expected = [format!("X is `{x}`, {why}"), SECONDS.to_owned(), CALCULATE.to_owned()];
        assert_eq!(wrong(&["calculate", "worker-1", x, "done"]), expected);
    }
}

#[test]
fn a_message_of_4097_characters_is_refused() {
    let expected = ["MSG is too long: 4097 characters", "at most 4096 characters", "shorten it"];
    assert_eq!(wrong(&["calculate", "worker-1", "1", &"ü".repeat(4_097)]), expected);
}

#[test]
fn a_calculation_without_a_message_or_a_target_lacks_something() {
    let [what, expected, hint] = wrong(&["calculate", "worker-1", "2.5"]);
    assert_eq!(what, "something is missing: only `worker-1 2.5` was given");
    assert_eq!([expected, hint], ["TARGET… X MSG", CALCULATE]);
    assert_eq!(wrong(&["calculate"])[0], "something is missing: nothing was given");
}

#[test]
fn a_message_that_looks_like_an_option_needs_two_dashes() {
    let [what, _, hint] = wrong(&["calculate", "worker-1", "1", "-x"]);
    assert_eq!([what, hint], ["unexpected argument '-x' found", "to pass '-x' as a value, use '-- -x'"]);
    // Nobody means that by the name of an option.
    let [_, _, hint] = wrong(&["credential", "issue", "operator", "bob", "--most"]);
    assert_eq!(hint, "countersign credential issue operator --help");
}

#[test]
fn what_is_not_the_id_of_a_command_is_refused() {
    let expected = [
        "`worker-2` is not the id of a command",
        "a UUID of version 7 in lower case with hyphens, or its last 4 digits or more, after the targets",
        "`countersign jobs TARGET` lists the ids",
    ];
    assert_eq!(wrong(&["cancel", "worker-1", "worker-2"]), expected);
    // Of another version, and in upper case.
    for id in ["b2f0c1de-7c1e-4a55-9d0b-3c1f5e8a2b90", "019AB2D4-7C1E-7A55-9D0B-3C1F5E8A2B90"] {
        assert_eq!(wrong(&["result", "worker-1", id])[0], format!("`{id}` is not the id of a command"));
    }
    assert_eq!(wrong(&["result", "worker-1"])[0], "something is missing: only `worker-1` was given");
}

#[test]
fn the_name_of_a_command_is_a_name() {
    let expected = [
        "`Ping` is not a valid name: 1 to 64 of a-z, 0-9, - and _, with a letter or digit at both ends",
        "the name of a command, after the targets",
        "`countersign status TARGET` lists the commands that a client knows",
    ];
    assert_eq!(wrong(&["call", "worker-1", "Ping"]), expected);
}

#[test]
fn arguments_that_are_not_one_strict_json_object_are_refused() {
    for (args, why) in [
        ("", "not JSON, at byte 0"),
        ("[1]", "an object was expected"),
        ("{\"x\": 1, \"\\u0078\": 2}", "the member `x` twice"),
        ("{\"x\": 1e400}", "a number that is not finite"),
        ("{} {}", "something after the object, at byte 3"),
    ] {
        let [what, ..] = wrong(&["call", "worker-1", "calculate", "--args", args]);
        assert_eq!(what, format!("the arguments from --args are not valid: {why}"));
    }
}

#[test]
fn arguments_from_a_file_that_is_not_there_or_is_too_long_are_refused() {
    let folder = Folder::new();
    let [what, ..] = parts(&folder.run(&["call", "worker-1", "ping", "--args-file", "no.json"]), 2);
    assert_eq!(what, "no.json cannot be read: No such file or directory (os error 2)");
    std::fs::write(folder.path("long.json"), " ".repeat(262_145)).unwrap();
    let [what, ..] = parts(&folder.run(&["call", "worker-1", "ping", "--args-file", "long.json"]), 2);
    assert_eq!(what, "the arguments from long.json are too long");
}

#[test]
fn arguments_are_given_once() {
    let expected = ["the arguments are given twice", "one of --args, --args-file and `-`", "leave one out"];
    assert_eq!(wrong(&["call", "worker-1", "ping", "--args", "{}", "-"]), expected);
    let [what, ..] = wrong(&["call", "worker-1", "ping", "--args", "{}", "--args-file", "a"]);
    assert_eq!(what, "the argument '--args <JSON>' cannot be used with '--args-file <FILE>'");
}

#[test]
fn a_duration_needs_a_unit_and_is_longer_than_nothing() {
    for (duration, why) in [
        ("5", "the unit is missing: `5s` is 5 seconds"),
        ("soon", "a number and a unit was expected, such as 500ms, 5s, 1m30s, 2h or 7d"),
        ("0s", "it must be longer than nothing"),
    ] {
        let [what, _, hint] = wrong(&["ping", "worker-1", "--timeout", duration]);
        assert_eq!(what, format!("invalid value '{duration}' for '--timeout <DURATION>': {why}"));
        assert_eq!(hint, "countersign ping --help");
    }
}

#[test]
fn a_command_that_would_live_too_long_is_not_sent() {
    let expected = [
        "--ttl 2m is longer than a command of alice may live",
        "at most 1m",
        "--ttl 1m, and --timeout for how long to wait",
    ];
    assert_eq!(parts(&Folder::with_keys(&[]).run(&["ping", "worker-1", "--ttl", "2m"]), 2), expected);
}

#[test]
fn an_unknown_format_is_refused() {
    let expected =
        ["invalid value 'yaml' for '--output <FORMAT>'", "one of table, json, ndjson", "countersign ping --help"];
    assert_eq!(wrong(&["ping", "worker-1", "-o", "yaml"]), expected);
}

#[test]
fn an_option_that_means_nothing_to_a_subcommand_is_refused_before_it_and_after_it() {
    let expected = ["`--dry-run` means nothing to `countersign init`", "", "countersign init --help"];
    assert_eq!(wrong(&["init", "--dry-run"]), expected);
    assert_eq!(wrong(&["--dry-run", "init"]), expected);
    assert_eq!(
        wrong(&["client", "--name", "worker-1", "--ttl", "5s"])[0],
        "`--ttl` means nothing to `countersign client`"
    );
}

#[test]
fn an_option_for_every_subcommand_may_stand_before_it() {
    // It is read: there is no broker, and that is all that is wrong.
    let run = Folder::with_keys(&[]).run(&["--nats-url", "nats://127.0.0.1:1", "-o", "json", "ping", "worker-1"]);
    let [what, ..] = parts(&run, 4);
    assert!(what.starts_with("no NATS server answers at 127.0.0.1:1"), "{what}");
}

#[test]
fn another_realm_than_that_of_the_keys_is_refused() {
    let expected = [
        "the folder keys is of the realm demo, not plant",
        "one folder of keys for each realm",
        "name the folder of that realm by --keys, or leave out --realm",
    ];
    let folder = Folder::with_keys(&[]);
    assert_eq!(parts(&folder.run(&["ping", "worker-1", "--realm", "plant"]), 2), expected);
    assert_eq!(parts(&folder.run(&["client", "--name", "worker-1", "--realm", "plant"]), 2), expected);
    assert_eq!(parts(&folder.run(&["init", "--realm", "plant"]), 2), expected);
}

#[test]
fn with_several_operators_one_must_be_named() {
    let folder = Folder::with_keys(&["--operator", "alice", "--operator", "bob"]);
    let expected = [
        "the folder keys has several operators",
        "one of alice, bob, by --as or COUNTERSIGN_OPERATOR",
        "countersign ping worker-1 --as alice",
    ];
    assert_eq!(parts(&folder.run(&["ping", "worker-1"]), 2), expected);
}

#[test]
fn an_operator_or_a_client_that_is_not_in_the_folder_is_answered_with_the_nearest() {
    let folder = Folder::with_keys(&[]);
    let expected =
        ["the folder keys has no operator alcie", "one that it has: alice", "countersign ping worker-1 --as alice"];
    assert_eq!(parts(&folder.run(&["ping", "worker-1", "--as", "alcie"]), 5), expected);
    let expected =
        ["the folder keys has no client wroker-1", "one that it has: worker-1", "countersign client --name worker-1"];
    assert_eq!(parts(&folder.run(&["client", "--name", "wroker-1"]), 5), expected);
}

#[test]
fn a_schema_with_a_typo_is_answered_with_the_nearest() {
    let expected =
        ["there is no schema `comand`", "one of those that `countersign schema` lists", "countersign schema command"];
    assert_eq!(wrong(&["schema", "comand"]), expected);
}

#[test]
fn a_broker_that_is_not_there_is_status_4() {
    let run = Folder::with_keys(&[]).run(&["ping", "worker-1", "--nats-url", "nats://127.0.0.1:1"]);
    let [what, expected, hint] = parts(&run, 4);
    assert!(what.starts_with("no NATS server answers at 127.0.0.1:1: "), "{what}");
    assert_eq!(expected, "a running NATS server");
    assert_eq!(hint, "start the server, or name another by `--nats-url` or NATS_URL");
}

#[test]
fn a_url_that_is_none_is_status_2() {
    let run = Folder::with_keys(&[]).run(&["ping", "worker-1", "--nats-url", "nats://:::"]);
    assert!(parts(&run, 2)[0].starts_with("`nats://:::` is not the URL of a NATS server"));
}

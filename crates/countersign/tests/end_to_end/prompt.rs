//! The prompt, at a terminal that the test makes.

use crate::fleet::Fleet;
use crate::process::Signal;
use crate::pty::{CTRL_C, CTRL_D, Pty, UP};

/// A person at the prompt, who has a history of their own.
fn prompt(fleet: &Fleet, arguments: &[&str]) -> Pty {
    let mut command = fleet.command(&["server"]);
    command.args(arguments).env("XDG_STATE_HOME", fleet.path().join("xdg"));
    Pty::spawn(&command)
}

/// The same, once it shows this prompt.
pub fn prompt_at(fleet: &Fleet, first: &str) -> Pty {
    let mut prompt = prompt(fleet, &[]);
    prompt.wait_for(first);
    prompt
}

#[test]
fn a_person_starts_computes_on_and_terminates_the_only_client_as_help_shows() {
    let fleet = Fleet::new();
    let worker = fleet.client("worker-1");
    let mut person = prompt(&fleet, &[]);
    person.wait_for("`help` teaches");
    person.wait_for("worker-1 unready> ");
    person.line("help");
    let help = person.wait_for("worker-1 unready> ");
    let walk: Vec<&str> = help.lines().skip_while(|line| !line.starts_with("A first walk")).skip(1).take(3).collect();
    for (line, answer, next) in [
        (walk[0], "worker-1: ready, in ", "worker-1 ready> "),
        (walk[1], "worker-1: printed \"all done\" after 2.5 s", "worker-1 ready> "),
        (walk[2], "worker-1: terminated; 0 jobs cancelled", "countersign> "),
    ] {
        // The line of the help is typed as it stands, without its explanation.
        let typed = line.trim().split("    ").next().unwrap();
        person.line(typed);
        person.wait_for(answer);
        // Where it went on in the background, the prompt is shown again below the answer.
        person.wait_for(next);
    }
    worker.wait().exits(0);
    person.line("ping");
    person.wait_for("no target is named, and every client has ended: worker-1");
    person.wait_for("try: start one again: `countersign client --name worker-1` on the machine that has its key");
    person.wait_for("countersign> ");
    person.keys(CTRL_D);
    assert_eq!(person.wait().0, Some(0));
}

#[test]
fn the_prompt_shows_the_context_that_it_uses() {
    let (fleet, _worker) = Fleet::ready();
    let settings = ["--keys", "keys", "--nats-url", &fleet.broker.url()];
    fleet.run(&[&["context", "set", "plant"][..], &settings].concat()).exits(0);
    let in_context = |variables: &[&str]| {
        let mut command = fleet.command(&["server"]);
        command.env("XDG_STATE_HOME", fleet.path().join("xdg")).env("COUNTERSIGN_CONTEXT", "plant");
        for variable in variables {
            command.env_remove(variable);
        }
        Pty::spawn(&command)
    };
    in_context(&["NATS_URL", "COUNTERSIGN_KEYS"]).wait_for("[plant] worker-1 ready> ");
    // Where everything is from the environment, it is not in use.
    let mut person = prompt_at(&fleet, "worker-1 ready> ");
    assert!(!person.screen().contains("plant"), "{}", person.screen());
    person.keys(CTRL_D);
}

#[test]
fn events_of_clients_appear_above_the_line_being_typed_whose_prompt_follows_and_nothing_of_it_is_lost() {
    let (fleet, _worker) = Fleet::ready();
    let mut person = prompt_at(&fleet, "worker-1 ready> ");
    person.keys("stat");
    person.wait_for("stat");
    fleet.run(&["stop", "worker-1"]).exits(0);
    person.wait_for("event: worker-1 is unready; it was ready");
    // As wide as the prompt before it, and the state is whole.
    person.wait_for("…ker-1 unready> stat");
    person.line("us");
    person.wait_for("state      unready");
    person.wait_for("worker-1 unready> ");
}

#[test]
fn the_jobs_and_the_exit_of_other_peoples_clients_are_shown() {
    let (fleet, worker) = Fleet::ready();
    let mut person = prompt_at(&fleet, "worker-1 ready> ");
    let other = fleet.spawn(&["calculate", "worker-1", "0.1", "x"]);
    person.wait_for("event: worker-1 runs calculate of alice");
    person.wait_for("event: worker-1: calculate of alice has ended: succeeded");
    other.wait().exits(0);
    worker.signal(Signal::TERM);
    person.wait_for("event: worker-1 has ended");
    // It holds its name until its process has exited.
    worker.wait().exits(0);
    fleet.client("worker-1");
    person.wait_for("event: worker-1 is there, unready");
}

#[test]
fn a_long_command_goes_on_in_the_background_and_ctrl_c_cancels_it() {
    let (fleet, _worker) = Fleet::ready();
    let mut person = prompt_at(&fleet, "worker-1 ready> ");
    person.line("calculate 60 never");
    person.wait_for("`calculate 60 never` goes on in the background");
    person.wait_for("worker-1 ready> ");
    person.line("ping");
    person.wait_for("worker-1: it is ");
    person.wait_for("worker-1 ready> ");
    person.keys(CTRL_C);
    person.wait_for("under way: `calculate 60 never`");
    person.wait_for("cancel (c), stop waiting (s, Ctrl-C), or go on (Enter)? ");
    person.line("c");
    person.wait_for("worker-1: cancelled");
    person.wait_for("what came of `calculate 60 never`:");
    person.wait_for("worker-1: cancelled: ");
    person.wait_for("worker-1 ready> ");
    person.keys(CTRL_C);
    person.wait_for("note: Ctrl-D leaves");
}

#[test]
fn of_several_commands_ctrl_c_cancels_the_one_whose_number_is_typed() {
    let (fleet, _worker) = Fleet::ready();
    let mut person = prompt_at(&fleet, "worker-1 ready> ");
    for line in ["calculate 60 first", "calculate 60 second"] {
        person.line(line);
        person.wait_for(&format!("`{line}` goes on in the background"));
        person.wait_for("worker-1 ready> ");
    }
    person.keys(CTRL_C);
    person.wait_for("under way: 1 `calculate 60 first`, 2 `calculate 60 second`");
    person.wait_for("cancel all (c) or one (its number), stop waiting (s, Ctrl-C), or go on (Enter)? ");
    person.line("2");
    person.wait_for("what came of `calculate 60 second`:");
    person.wait_for("worker-1: cancelled: ");
    person.wait_for("worker-1 ready> ");
    assert_eq!(fleet.status("worker-1")["jobs"]["running"], 1, "the first one goes on");
}

#[test]
fn the_id_of_a_job_in_a_table_is_one_that_can_be_typed() {
    let (fleet, _worker) = Fleet::ready();
    let ran = fleet.run(&["calculate", "worker-1", "0", "done", "-o", "json"]).exits(0).json();
    let mut person = prompt_at(&fleet, "worker-1 ready> ");
    person.line("jobs");
    let id = ran["command_id"].as_str().unwrap();
    person.wait_for(&id[id.len() - 6..]);
    person.line(&format!("result {}", &id[id.len() - 6..]));
    person.wait_for("succeeded (alice's command)");
}

#[test]
fn at_the_question_after_ctrl_c_a_command_runs_and_what_is_no_answer_changes_nothing() {
    let (fleet, _worker) = Fleet::ready();
    let mut person = prompt_at(&fleet, "worker-1 ready> ");
    person.line("calculate 60 never");
    person.wait_for("goes on in the background");
    person.wait_for("worker-1 ready> ");
    person.keys(CTRL_C);
    person.wait_for("or go on (Enter)? ");
    for line in ["cancle", "2", "0"] {
        person.line(line);
        person.wait_for(&format!("`{line}` is no answer, and nothing was done"));
        person.wait_for("or go on (Enter)? ");
    }
    person.line("ping");
    person.wait_for("worker-1: it is ");
    assert_eq!(fleet.status("worker-1")["jobs"]["running"], 1, "it goes on");
    person.wait_for("worker-1 ready> ");
    person.keys(CTRL_C);
    person.wait_for("or go on (Enter)? ");
    person.line("1");
    person.wait_for("worker-1: cancelled");
}

#[test]
fn ctrl_c_while_a_reply_is_awaited_ends_the_wait_and_not_the_prompt() {
    let (fleet, worker) = Fleet::ready();
    let mut person = prompt_at(&fleet, "worker-1 ready> ");
    worker.signal(Signal::STOP);
    let mut observer = fleet.observer();
    person.line("ping --timeout 10m");
    observer.wait_for("the ping", |message| message.json()["command"]["name"] == "ping");
    person.keys(CTRL_C);
    person.wait_for("under way: `ping --timeout 10m`");
    person.wait_for("or go on (Enter)? ");
    person.line("stop");
    person.wait_for("whether it ran, and how it ended, is unknown");
    person.wait_for("worker-1 ready> ");
    worker.signal(Signal::CONT);
    person.wait_for("reply: worker-1: succeeded, ");
}

#[test]
fn leaving_while_a_command_runs_shows_its_state() {
    let (fleet, _worker) = Fleet::ready();
    let mut person = prompt_at(&fleet, "worker-1 ready> ");
    person.line("calculate 60 never");
    person.wait_for("goes on in the background");
    person.wait_for("worker-1 ready> ");
    person.line("quit");
    let (code, screen) = person.wait();
    assert_eq!(code, Some(0));
    assert!(screen.contains("worker-1: accepted; it runs on") && screen.contains("`wait worker-1 "), "{screen}");
    assert_eq!(fleet.status("worker-1")["jobs"]["running"], 1, "it runs on");
}

#[test]
fn a_typo_never_ends_the_prompt_and_names_what_was_meant() {
    let (fleet, _worker) = Fleet::ready();
    let mut person = prompt_at(&fleet, "worker-1 ready> ");
    for (line, error) in [
        ("pnig", "try: ping"),
        ("calculate 1", "something is missing"),
        ("ping \"open", "a quotation mark is never closed"),
        ("calculate wroker-1 1 \"all done\"", "try: calculate worker-1 1 \"all done\""),
        ("use wroker-1", "try: use worker-1"),
        ("start now", "try: `clients` lists those that are known"),
        ("call calcualte x=1 msg=\"all done\"", "try: call calculate x=1 msg=\"all done\""),
        ("describe calcualte", "note: there is a command of a similar name: `describe calculate`"),
        ("call calcualte --timeout 30s", "note: there is a command of a similar name: `call calculate --timeout 30s`"),
        ("ping @wbe", "matches no client"),
        ("use @wbe", "@wbe"),
        ("cancel 7", "`7` is not the id of a command"),
        ("ping --ttl 9d", "is longer than a command of alice may live"),
        ("init", "try: in a shell: countersign init"),
        ("ping --nats-url nats://x", "means nothing"),
        ("\u{202e}gnip", "there is no command `\\u{202e}gnip`"),
    ] {
        person.line(line);
        person.wait_for(error);
        person.wait_for("worker-1 ready> ");
    }
}

#[test]
fn tab_completes_and_the_history_is_there_the_next_time() {
    let (fleet, _worker) = Fleet::ready();
    let mut person = prompt_at(&fleet, "worker-1 ready> ");
    person.keys("sta\ttus wor\t");
    person.wait_for("worker-1 ");
    person.line("--timeout 30s");
    person.wait_for("state      ready");
    person.wait_for("worker-1 ready> ");
    person.keys(CTRL_D);
    assert_eq!(person.wait().0, Some(0));

    let mut person = prompt_at(&fleet, "worker-1 ready> ");
    person.keys(UP);
    person.wait_for("worker-1 --timeout 30s");
    person.line("");
    person.wait_for("state      ready");
    use std::os::unix::fs::PermissionsExt as _;
    let history = fleet.path().join("xdg/countersign/server.history");
    assert_eq!(std::fs::metadata(history).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_is_typed_ahead_is_not_lost() {
    let (fleet, _worker) = Fleet::ready();
    let mut person = prompt_at(&fleet, "worker-1 ready> ");
    person.keys("stop\rstart\rping\rcalculate 0 ahead\r");
    for answer in ["worker-1: unready", "worker-1: ready", "worker-1: it is ", "worker-1: printed \"ahead\""] {
        person.wait_for(answer);
    }
}

#[test]
fn pasted_lines_run_one_by_one_up_to_the_first_error() {
    let (fleet, _worker) = Fleet::ready();
    let mut person = prompt_at(&fleet, "worker-1 ready> ");
    person.keys("\u{1b}[200~stop\nstart worker-1\npnig\nterminate\n\u{1b}[201~\r");
    for shown in
        ["worker-1: unready", "worker-1: ready", "there is no command `pnig`", "not done, after that: 1 more line"]
    {
        person.wait_for(shown);
    }
    person.wait_for("worker-1 ready> ");
}

#[test]
fn a_command_goes_to_the_target_that_the_prompt_showed_whichever_clients_came_and_went_meanwhile() {
    let fleet = Fleet::of(&["worker-1", "worker-2"]);
    let _one = fleet.client("worker-1");
    let mut person = prompt_at(&fleet, "worker-1 unready> ");
    person.keys("terminate --time");
    person.wait_for("terminate --time");
    let _other = fleet.client("worker-2");
    person.wait_for("event: worker-2 is there");
    fleet.run(&["terminate", "worker-1"]).exits(0);
    person.wait_for("event: worker-1 has ended");
    person.line("out 300ms");
    person.wait_for("worker-1: offline");
    person.wait_for("worker-2 unready> ");
    assert_eq!(fleet.status("worker-2")["state"], "unready", "it never received the terminate");
}

#[test]
fn input_that_is_not_utf_8_is_discarded_and_does_not_end_the_prompt() {
    let (fleet, _worker) = Fleet::ready();
    let mut person = prompt_at(&fleet, "worker-1 ready> ");
    person.bytes(b"pi\xffng\r");
    person.wait_for("no text in UTF-8");
    person.line("");
    person.wait_for("worker-1 ready> ");
    person.line("ping worker-1");
    person.wait_for("worker-1: it is ");
}

#[test]
fn a_signal_to_end_is_obeyed_whatever_the_prompt_waits_for() {
    let (fleet, worker) = Fleet::ready();
    let mut at_question = prompt_at(&fleet, "worker-1 ready> ");
    at_question.line("calculate 60 never");
    at_question.wait_for("goes on in the background");
    at_question.wait_for("worker-1 ready> ");
    at_question.keys(CTRL_C);
    at_question.wait_for("or go on (Enter)? ");
    at_question.signal(Signal::TERM);
    let (code, screen) = at_question.wait();
    assert_eq!(code, Some(0));
    assert!(screen.contains("worker-1: accepted; it runs on"), "{screen}");

    let mut waiting = prompt_at(&fleet, "worker-1 ready> ");
    worker.signal(Signal::STOP);
    let mut observer = fleet.observer();
    waiting.line("ping --timeout 10m");
    observer.wait_for("the ping", |message| message.json()["command"]["name"] == "ping");
    waiting.signal(Signal::HUP);
    let (code, screen) = waiting.wait();
    assert_eq!(code, Some(0));
    assert!(screen.contains("interrupted before a reply"), "{screen}");
}

#[test]
fn an_interrupt_before_anything_was_sent_sends_nothing() {
    let (fleet, _worker) = Fleet::ready();
    let mut person = prompt_at(&fleet, "worker-1 ready> ");
    let mut observer = fleet.observer();
    fleet.broker.signal(Signal::STOP);
    person.line("stop @all");
    person.wait_for("stop @all");
    // Until the line is taken, Ctrl-C is a key of it.
    person.wait_for("\n");
    let shell = fleet.spawn(&["stop", "@all"]);
    shell.signal(Signal::INT);
    let ran = shell.wait();
    assert!(ran.code == Some(130) || ran.code.is_none(), "{ran:?}");
    person.keys(CTRL_C);
    person.wait_for("interrupted before anything was sent");
    fleet.broker.signal(Signal::CONT);
    person.line("ping --retry");
    person.wait_for("worker-1: it is ");
    let sent = observer.so_far();
    assert!(!sent.iter().any(|message| message.json()["command"]["name"] == "stop"), "nothing of it was sent");
}

#[test]
fn use_sets_the_target_and_the_prompt_shows_its_state() {
    let fleet = Fleet::of(&["worker-1:web", "worker-2:web", "worker-3"]);
    let _workers = ["worker-1", "worker-2", "worker-3"].map(|worker| fleet.client(worker));
    let mut person = prompt_at(&fleet, "countersign> ");
    person.line("ping");
    person.wait_for("no target is named, and there is not exactly one client");
    person.wait_for("countersign> ");
    person.line("use @web");
    person.wait_for("@web 0/2 ready> ");
    person.line("start --retry");
    // The events come over another connection than the replies.
    person.wait_until("both", |shown| {
        ["2 targets: 2 succeeded", "worker-1 is ready", "worker-2 is ready"].iter().all(|text| shown.contains(text))
    });
    person.wait_for("@web 2/2 ready> ");
    person.line("use worker-3");
    person.wait_for("worker-3 unready> ");
    person.line("clients");
    let table = person.wait_for("worker-3 unready> ");
    for client in ["worker-1  ready    web", "worker-2  ready    web", "worker-3  unready  -"] {
        assert!(table.contains(client), "{table}");
    }
    person.line("use");
    person.wait_for("countersign> ");
    person.line("ping @all");
    person.wait_for("3 targets: 1 refused, 2 succeeded");
}

#[test]
fn two_prompts_work_side_by_side_and_see_only_their_own_replies() {
    let (fleet, _worker) = Fleet::ready();
    let mut one = prompt_at(&fleet, "worker-1 ready> ");
    let mut other = prompt_at(&fleet, "worker-1 ready> ");
    one.line("calculate 0.7 \"of the one\"");
    other.line("calculate 0.7 \"of the other\"");
    other.wait_for("printed \"of the other\" after 0.7 s");
    one.wait_for("printed \"of the one\" after 0.7 s");
    for (person, foreign) in [(&one, "of the other"), (&other, "of the one")] {
        let screen = person.screen();
        assert!(!screen.contains(foreign) && !screen.contains("ignored"), "{screen}");
    }
    one.line("stop");
    one.wait_for("worker-1: unready");
    other.wait_for("event: worker-1 is unready; it was ready");
}

#[test]
fn the_prompt_outlives_the_broker_and_shows_without_a_key_whether_there_is_one() {
    let (mut fleet, _worker) = Fleet::ready();
    let mut person = prompt_at(&fleet, "worker-1 ready> ");
    person.keys("ping --time");
    person.wait_for("ping --time");
    fleet.broker.kill();
    person.wait_for("the connection to the broker is lost");
    person.wait_for("disconnected>   ping --time");
    fleet.broker.restart();
    person.wait_for("the connection to the broker is back");
    person.wait_for("worker-1 ready> ping --time");
    person.line("out 30s --retry");
    person.wait_for("worker-1: it is ");
}

#[test]
fn what_is_typed_while_there_is_no_connection_is_refused_and_does_not_run_later() {
    let (mut fleet, worker) = Fleet::ready();
    let mut person = prompt_at(&fleet, "worker-1 ready> ");
    fleet.broker.kill();
    person.wait_for("the connection to the broker is lost");
    for line in ["calculate worker-1 0.1 ghost", "calculate @all 0.1 ghost", "clients"] {
        person.line(line);
        person.wait_for("error: the connection to the broker is lost; nothing was sent");
        person.wait_for("disconnected> ");
    }
    fleet.broker.restart();
    person.wait_for("the connection to the broker is back");
    person.line("calculate worker-1 0.1 after --retry --timeout 30s");
    person.wait_for("worker-1: printed \"after\"");
    assert_eq!(worker.printed(), "after\n", "the ghost never ran");
}

#[test]
fn no_colour_is_shown_where_none_is_wanted_and_the_terminal_is_left_as_it_was() {
    let (fleet, _worker) = Fleet::ready();
    let mut person = prompt_at(&fleet, "worker-1 ready> ");
    person.line("pnig");
    person.wait_for("error: there is no command `pnig`");
    person.wait_for("worker-1 ready> ");
    // A colour is ESC [ and numbers, up to an m.
    let is_number = |byte: &&u8| byte.is_ascii_digit() || **byte == b';';
    let is_colour = |at: &[u8]| at.iter().skip(2).find(|byte| !is_number(byte)) == Some(&b'm');
    let shown = person.raw();
    let coloured = (0..shown.len()).any(|at| shown[at..].starts_with(b"\x1b[") && is_colour(&shown[at..]));
    assert!(!coloured, "{:?}", String::from_utf8_lossy(shown));
    person.signal(Signal::TERM);
    let (code, _) = person.wait();
    assert_eq!(code, Some(0), "it exits as on Ctrl-D");
}

#[test]
fn a_table_fits_a_terminal_of_80_columns_and_is_one_line_a_client_where_there_is_none() {
    let fleet = Fleet::of(&["worker-1", "worker-2:web,db"]);
    let _workers = ["worker-1", "worker-2"].map(|worker| fleet.client(worker));
    let (code, screen) = Pty::spawn(&fleet.command(&["ping", "@all"])).wait();
    assert_eq!(code, Some(1), "{screen}");
    // Before it stands the line of progress, which is wiped away.
    let table: Vec<&str> = screen[screen.find("CLIENT").unwrap()..].lines().collect();
    let cut = |line: &&str| line.split("  ").next().unwrap().to_owned();
    let first: Vec<String> = table.iter().map(cut).collect();
    assert_eq!(first, ["CLIENT", "worker-1", "", "worker-2", "", "", "2 targets: 2 refused"], "{screen}");
    assert!(table.iter().all(|line| line.chars().count() <= 80), "{screen}");

    let plain = fleet.run(&["ping", "@all"]).exits(1).stdout;
    assert_eq!(plain.lines().count(), 5, "{plain}");
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
}

//! What a line at the prompt says.

use countersign_machine::server::Audience;
use countersign_protocol::text::echo;

use super::help;
use crate::args::{self, ClientsAction, Command, Options, ParseExit};
use crate::cli_error::{CliError, CliResult};
use crate::parsing::{self, InputContext, Request};
use crate::suggest::suggest;

/// All that can be typed here.
pub(super) const COMMANDS: [&str; 17] = [
    "start",
    "stop",
    "terminate",
    "ping",
    "calculate",
    "cancel",
    "status",
    "jobs",
    "result",
    "call",
    "clients",
    "schema",
    "use",
    "help",
    "quit",
    "exit",
    "?",
];

/// What is to be done.
#[derive(Debug)]
pub(super) enum Line {
    /// It was empty, or a comment.
    Nothing,
    /// Leave.
    Quit,
    /// Show this text.
    Show(String),
    /// From now on commands are for these, if they name nobody; `None` ends that.
    Use(Option<Audience>),
    /// Show the roster, or strike somebody from it.
    Clients(Option<ClientsAction>, Box<Options>),
    /// Print a schema, or the names of all.
    Schema(Option<String>),
    /// Give an order.
    Request(Request, Box<Options>),
}

/// Reads a line. What it does not say is as the session has it: the options, and whom commands are for that name nobody.
pub(super) fn read(line: &str, session: &Options, usual: Option<&Audience>) -> CliResult<Line> {
    let words = shlex::split(line).ok_or_else(|| {
        CliError::usage("a quotation mark is never closed, or the line ends in a backslash")
            .expected("text with spaces between two quotation marks")
            .hint("calculate 2.5 \"all done\"")
    })?;
    // Whoever pastes what was meant for a shell is understood too.
    let said = words.strip_prefix(&["countersign".to_owned()]).unwrap_or(&words);
    let Some((first, rest)) = said.split_first() else {
        return Ok(if words.is_empty() { Line::Nothing } else { Line::Show(help::OVERVIEW.to_owned()) });
    };
    match (first.as_str(), rest) {
        ("quit" | "exit", []) => Ok(Line::Quit),
        ("quit" | "exit", _) => Err(CliError::usage(format!("`{first}` takes nothing")).hint(first)),
        ("help" | "?" | "--help" | "-h", []) => Ok(Line::Show(help::OVERVIEW.to_owned())),
        ("help" | "?", about) => help_on(about, session),
        ("use", []) => Ok(Line::Use(None)),
        ("use", targets) => Ok(Line::Use(Some(parsing::target(targets)?))),
        _ => command(said, session, usual),
    }
}

fn command(words: &[String], session: &Options, usual: Option<&Audience>) -> CliResult<Line> {
    // What begins with an option is left to clap, which can say what is wrong with it.
    if !words[0].starts_with('-') {
        check(&words[0])?;
    }
    let cli = match args::parse_line(words, session) {
        Ok(cli) => cli,
        Err(ParseExit::Help(help)) => return Ok(Line::Show(help::at_the_prompt(&help.render().to_string()))),
        Err(ParseExit::Wrong(failure)) => return Err(failure),
    };
    let options = Box::new(cli.options);
    match cli.command {
        Command::Clients { action } => Ok(Line::Clients(action, options)),
        Command::Schema { name } => Ok(Line::Schema(name)),
        Command::Request(order) => Ok(Line::Request(parsing::request(&order, InputContext::Prompt(usual))?, options)),
        _ => Err(not_here(words.iter().find(|word| args::is_subcommand(word)).unwrap_or(&words[0]))),
    }
}

fn help_on(about: &[String], session: &Options) -> CliResult<Line> {
    let help = |words: &[String]| self::command(&[words, &["--help".to_owned()]].concat(), session, None);
    match about {
        [command] if ["use", "help", "quit", "exit", "?"].contains(&command.as_str()) => {
            Ok(Line::Show(help::OVERVIEW.to_owned()))
        }
        [_] => help(about),
        [clients, _] if clients == "clients" => help(about),
        _ => Err(CliError::usage("help is for one command at a time").hint("help calculate")),
    }
}

/// Refuses what is no command, or none for the prompt.
fn check(command: &str) -> CliResult<()> {
    match command {
        _ if COMMANDS.contains(&command) => Ok(()),
        _ if args::is_subcommand(command) => Err(not_here(command)),
        _ => Err(unknown(command)),
    }
}

fn not_here(command: &str) -> CliError {
    CliError::usage(format!("`{command}` is not for the prompt"))
        .expected("a command for clients, or one of those that `help` lists")
        .hint(format!("in a shell: countersign {command}"))
}

fn unknown(command: &str) -> CliError {
    let failure = CliError::usage(format!("there is no command `{}`", echo(command)));
    match suggest(command, COMMANDS) {
        Some(near) => failure.expected("one that `help` lists").hint(near),
        None => failure.expected("a command, and after it whom it is for").hint("help"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

    use super::*;
    use crate::duration::Span;
    use crate::text::Place;

    fn session() -> Options {
        let line = ["countersign", "server", "--timeout", "9s"].map(Into::into);
        args::parse(&line).unwrap_or_else(|_| panic!("a fine line")).options
    }

    fn say(line: &str) -> CliResult<Line> {
        let worker = Audience::Clients(vec!["worker-1".parse().unwrap()]);
        read(line, &session(), Some(&worker))
    }

    fn order(line: &str) -> (Request, Options) {
        match say(line) {
            Ok(Line::Request(request, options)) => (request, *options),
            other => panic!("{line}: {other:?}"),
        }
    }

    fn wrong(line: &str) -> String {
        shown(line, say(line))
    }

    /// The same where there are several clients, and `use` has named none.
    fn wrong_for_nobody(line: &str) -> String {
        shown(line, read(line, &session(), None))
    }

    fn shown(line: &str, read: CliResult<Line>) -> String {
        match read {
            Err(failure) => failure.lines(Place::Prompt).map(|(_, line)| line).collect::<Vec<_>>().join(" | "),
            other => panic!("{line}: {other:?}"),
        }
    }

    fn text(line: &str) -> String {
        match say(line) {
            Ok(Line::Show(text)) => text,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn a_target_that_is_not_named_is_the_usual_one() {
        for (short, long) in [
            ("ping", "ping worker-1"),
            ("calculate 2.5 \"all done\"", "calculate worker-1 2.5 'all done'"),
            ("cancel 019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90", "cancel worker-1 019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90"),
            ("call ping", "call worker-1 ping"),
        ] {
            assert_eq!(order(short).0, order(long).0, "{short}");
        }
        assert_ne!(order("ping worker-2").0, order("ping").0);
        assert_eq!(order("ping @all").0.audience, Audience::All);
        assert_eq!(order("ping @web").0.audience, Audience::Group("web".parse().unwrap()));
    }

    #[test]
    fn nobody_is_guessed_where_there_is_no_usual_target() {
        assert!(wrong_for_nobody("ping").starts_with("no target is named, and there is not exactly one client | "));
    }

    #[test]
    fn where_nobody_can_be_left_out_too_few_words_are_told_with_the_form() {
        for (line, form) in [
            ("calculate worker-1 5", "X MSG"),
            ("result worker-1", "COMMAND-ID"),
            ("cancel 019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90", "COMMAND-ID"),
            ("call worker-1", "NAME"),
        ] {
            let (command, words) = line.split_once(' ').unwrap();
            let told = wrong_for_nobody(line);
            let start =
                format!("something is missing: only `{words}` was given | TARGET… {form}; without TARGET after ");
            assert!(told.starts_with(&start) && told.contains(&format!(" | {command} worker-1 ")), "{told}");
        }
        let told = "something is missing: only `1` was given | [TARGET…] X MSG | calculate worker-1 2.5 done";
        assert_eq!(wrong("calculate 1"), told);
    }

    #[test]
    fn what_was_meant_for_a_shell_is_read_without_the_name_of_the_program() {
        assert_eq!(order("countersign ping worker-2").0, order("ping worker-2").0);
        assert!(matches!(say("countersign quit"), Ok(Line::Quit)));
        assert_eq!(text("countersign"), help::OVERVIEW);
        assert!(wrong("countersign init").ends_with("in a shell: countersign init"));
    }

    #[test]
    fn a_line_that_begins_with_an_option_is_told_what_is_wrong_with_it() {
        assert!(
            wrong("-o json pnig").starts_with("unrecognized subcommand 'pnig' | one of those that `help` lists | ping")
        );
        assert_eq!(wrong("--timeout 1s"), "no command is named | <COMMAND> [OPTIONS] | help");
        assert!(wrong("--foo").starts_with("unexpected argument '--foo' found"));
        assert!(wrong("-o json init --client x").starts_with("`init` is not for the prompt"));
        assert_eq!(order("--timeout 1s ping").1.timeout, Span::from_millis(1_000));
    }

    #[test]
    fn what_a_line_does_not_say_is_as_the_session_has_it() {
        assert_eq!(order("ping").1.timeout, Span::from_millis(9_000));
        let options = order("ping --timeout 1s --detach").1;
        assert_eq!((options.timeout, options.detach), (Span::from_millis(1_000), true));
        assert!(!order("ping").1.detach);
    }

    #[test]
    fn what_belongs_to_the_session_cannot_be_changed_by_a_line() {
        for option in ["--nats-url nats://x:1", "--keys other", "--as bob", "--realm other", "-v", "-q"] {
            assert!(wrong(&format!("ping {option}")).contains("means nothing to `ping` | ping --help"), "{option}");
        }
    }

    #[test]
    fn a_typo_is_told_with_what_may_have_been_meant() {
        assert_eq!(wrong("pnig worker-1"), "there is no command `pnig` | one that `help` lists | ping");
        assert!(wrong("zzz").starts_with("there is no command `zzz`"));
        assert!(wrong("\u{1b}[2J").contains("\\u{1b}"));
        assert!(wrong("calculate \"open").contains("never closed"));
        assert!(wrong("ping @web worker-1").contains("beside other targets"));
        assert!(wrong("init").contains("not for the prompt"));
        for line in ["client", "client --name worker-1", "help init", "init --help", "schemas"] {
            assert!(wrong(line).contains("not for the prompt"), "{line}");
        }
        assert_eq!(
            wrong("clients foo"),
            "unrecognized subcommand 'foo' | one of those that `clients --help` lists | clients --help"
        );
        assert!(wrong("clients forget").ends_with(" | clients forget [OPTIONS] <NAME>... | clients forget --help"));
        assert!(wrong("call ping -").contains("standard input"));
        assert!(wrong("ping --tiemout 5s").contains("--timeout"));
        assert!(wrong("ping --ttl").contains("--ttl"));
    }

    #[test]
    fn a_word_without_end_is_neither_compared_nor_echoed_whole() {
        let endless = "a".repeat(10_000);
        for line in [
            endless.clone(),
            format!("--{endless}"),
            format!("-o json {endless}"),
            format!("ping -{endless}"),
            format!("ping --timeout {endless}"),
            format!("calculate 1 x {endless} y"),
            format!("clients {endless}"),
            format!("help {endless}"),
            format!("use {endless}."),
        ] {
            let told = wrong(&line);
            assert!(told.len() < 600, "{told}");
        }
        assert!(wrong(&format!("ping --{endless}=x")).starts_with("there is no option `--aaaa"));
        let request = order(&format!("calculate 1 -- -{}", "a".repeat(100))).0;
        assert_eq!(request.call.args["msg"].as_str().map(str::len), Some(101));
        order(&format!("call ping --args={{\\\"x\\\":\\\"{}\\\"}}", "a".repeat(100)));
    }

    #[test]
    fn a_comment_and_an_empty_line_say_nothing() {
        for line in ["", "   ", "# ping worker-1"] {
            assert!(matches!(say(line), Ok(Line::Nothing)), "{line:?}");
        }
    }

    #[test]
    fn every_command_has_help_that_names_no_shell() {
        for command in COMMANDS {
            let help = text(&format!("help {command}"));
            assert!(!help.contains(&format!("countersign {command}")), "{help}");
            assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
        }
        assert!(text("ping --help").contains("Usage: ping [OPTIONS] [TARGET]..."));
        assert!(wrong("help pnig").contains("ping"));
        assert!(wrong("help ping calculate").contains("one command at a time"));
    }

    #[test]
    fn help_shows_what_may_be_left_out_and_nothing_that_only_a_shell_can_do() {
        for (command, form) in [
            ("ping", "[TARGET]..."),
            ("calculate", "[TARGET]... <X> <MSG>"),
            ("cancel", "[TARGET]... <COMMAND-ID>"),
            ("result", "[TARGET]... <COMMAND-ID>"),
            ("call", "[TARGET]... <NAME>"),
        ] {
            let help = text(&format!("help {command}"));
            assert!(help.contains(&format!("Usage: {command} [OPTIONS] {form}\n")), "{help}");
            assert!(!["<TARGET>", "standard input", " | "].iter().any(|shell| help.contains(shell)), "{help}");
        }
    }

    #[test]
    fn help_is_shown_however_it_is_asked_for() {
        for line in ["help", "?", "--help", "-h", "help use"] {
            assert_eq!(text(line), help::OVERVIEW, "{line}");
        }
        for line in ["help clients forget", "clients forget --help"] {
            assert!(text(line).contains("Usage: clients forget [OPTIONS] <NAME>..."), "{line}");
        }
    }
}

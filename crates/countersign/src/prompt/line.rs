//! What a line at the prompt says.

use countersign_machine::server::Audience;
use countersign_protocol::text::echo;

use super::help;
use crate::args::{self, Asked, ClientsAction, Command, Options};
use crate::failure::{Failure, Fallible};
use crate::nearest::nearest;
use crate::words::{self, Place, Request};

/// The commands that only the prompt has, and those that a shell has too.
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
    Order(Request, Box<Options>),
}

/// Reads a line. What it does not say is as the session has it: the options, and whom commands are for that name nobody.
pub(super) fn read(line: &str, session: &Options, usual: Option<&Audience>) -> Fallible<Line> {
    let words = shlex::split(line).ok_or_else(|| {
        Failure::usage("a quotation mark is never closed, or the line ends in a backslash")
            .expected("text with spaces between two quotation marks")
            .remedy("calculate 2.5 \"all done\"")
    })?;
    let Some((first, rest)) = words.split_first() else { return Ok(Line::Nothing) };
    match (first.as_str(), rest) {
        ("quit" | "exit", []) => Ok(Line::Quit),
        ("quit" | "exit", _) => Err(Failure::usage(format!("`{first}` takes nothing")).remedy(first)),
        ("help" | "?", []) => Ok(Line::Show(help::OVERVIEW.to_owned())),
        ("help" | "?", [command]) => help_on(command, session),
        ("help" | "?", _) => Err(Failure::usage("help is for one command at a time").remedy("help calculate")),
        ("use", []) => Ok(Line::Use(None)),
        ("use", targets) => Ok(Line::Use(Some(words::target(targets)?))),
        _ => command(&words, session, usual),
    }
}

fn command(words: &[String], session: &Options, usual: Option<&Audience>) -> Fallible<Line> {
    let cli = match args::parse_line(words, session) {
        Ok(cli) => cli,
        Err(Asked::Help(help)) => return Ok(Line::Show(help::at_the_prompt(&help.render().to_string()))),
        Err(Asked::Wrong(failure)) if is_known(&words[0]) => return Err(failure),
        Err(Asked::Wrong(_)) => return Err(unknown(&words[0])),
    };
    let options = Box::new(cli.options);
    match cli.command {
        Command::Clients { action } => Ok(Line::Clients(action, options)),
        Command::Schema { name } => Ok(Line::Schema(name)),
        Command::Order(order) => Ok(Line::Order(words::request(&order, Place::Prompt(usual))?, options)),
        _ => Err(not_here(&words[0])),
    }
}

fn help_on(command: &str, session: &Options) -> Fallible<Line> {
    match command {
        "use" | "help" | "quit" | "exit" | "?" => Ok(Line::Show(help::OVERVIEW.to_owned())),
        _ if !is_known(command) => Err(unknown(command)),
        _ => self::command(&[command.to_owned(), "--help".to_owned()], session, None),
    }
}

fn not_here(command: &str) -> Failure {
    Failure::usage(format!("`{command}` is not for the prompt"))
        .expected("a command for clients, or one of those that `help` lists")
        .remedy(format!("in a shell: countersign {command}"))
}

fn is_known(command: &str) -> bool {
    COMMANDS.contains(&command)
}

fn unknown(command: &str) -> Failure {
    let failure = Failure::usage(format!("there is no command `{}`", echo(command)));
    match nearest(command, COMMANDS) {
        Some(near) => failure.expected("one that `help` lists").remedy(near),
        None => failure.expected("a command, and after it whom it is for").remedy("help"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

    use super::*;
    use crate::duration::Span;

    fn session() -> Options {
        let line = ["countersign", "server", "--timeout", "9s"].map(Into::into);
        args::parse(&line).unwrap_or_else(|_| panic!("a fine line")).options
    }

    fn say(line: &str) -> Fallible<Line> {
        let worker = Audience::Clients(vec!["worker-1".parse().unwrap()]);
        read(line, &session(), Some(&worker))
    }

    fn order(line: &str) -> (Request, Options) {
        match say(line) {
            Ok(Line::Order(request, options)) => (request, *options),
            other => panic!("{line}: {other:?}"),
        }
    }

    fn wrong(line: &str) -> String {
        match say(line) {
            Err(failure) => failure.lines().map(|(_, line)| line).collect::<Vec<_>>().join(" | "),
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
        let failure = read("ping", &session(), None).unwrap_err();
        assert!(failure.lines().any(|(_, line)| line.contains("nobody is named")), "{failure:?}");
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
            assert!(wrong(&format!("ping {option}")).contains("means nothing"), "{option}");
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
        assert!(wrong("client --name worker-1").contains("not for the prompt"));
        assert!(wrong("call ping -").contains("standard input"));
        assert!(wrong("ping --tiemout 5s").contains("--timeout"));
        assert!(wrong("ping --ttl").contains("--ttl"));
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
            let Ok(Line::Show(help)) = say(&format!("help {command}")) else { panic!("{command}") };
            assert!(!help.contains(&format!("countersign {command}")), "{help}");
            assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
        }
        assert!(matches!(say("ping --help"), Ok(Line::Show(_))));
        assert!(wrong("help pnig").contains("ping"));
    }
}

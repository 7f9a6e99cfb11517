//! What a line at the prompt means.

use countersign_machine::server::Audience;
use countersign_protocol::name::Name;

use super::help;
use crate::args::{
    self, ClientsAction, ClientsArgs, FollowArgs, HistoryArgs, NoOptions, OutputArgs, ParseExit, PromptCommand,
    SendArgs,
};
use crate::cli_error::{CliError, CliResult};
use crate::parsing::{self, InputContext, Request};

/// The name of the program.
const PROGRAM: &str = "countersign";

/// What is to be done.
#[derive(Debug)]
pub(super) enum Line {
    /// It was empty, or a comment.
    Nothing,
    /// Leave.
    Quit,
    /// Show this text.
    Show(String),
    /// From now on, commands without a target are for this one; `None` ends that.
    Use(Option<Audience>),
    /// Show the roster.
    Clients(OutputArgs),
    /// Show the commands of these targets, or of all.
    Commands(Vec<String>, OutputArgs),
    /// Remove these from the roster.
    Forget(Vec<Name>, OutputArgs),
    /// Show what was sent from here.
    History(HistoryArgs<NoOptions>),
    /// Print a schema, or the names of all.
    Schema(Option<String>, OutputArgs),
    /// Send a command.
    Request(Request, SendArgs, OutputArgs, FollowArgs),
}

/// Reads a line; a command without a target is for the default one.
pub(super) fn read(line: &str, default: Option<&Audience>) -> CliResult<Line> {
    let words = shlex::split(line).ok_or_else(|| {
        CliError::usage("a quotation mark is never closed, or the line ends in a backslash")
            .expected("text with spaces between two quotation marks")
            .hint("calculate 2.5 \"all done\"")
    })?;
    // A line that was copied from a shell is understood too.
    let typed = words.strip_prefix(&[PROGRAM.to_owned()]).unwrap_or(&words);
    match typed {
        [] if words.is_empty() => return Ok(Line::Nothing),
        [] => return Ok(Line::Show(help::overview())),
        [help] if help == "--help" || help == "-h" => return Ok(Line::Show(help::overview())),
        _ => {}
    }
    meaning(typed, default).map_err(|error| error.corrected(typed))
}

/// The words of a line, without the name of the program, which a line may have that was copied from a shell.
pub(super) fn words(line: &str) -> Vec<String> {
    let mut words = shlex::split(line).unwrap_or_default();
    if words.first().is_some_and(|word| word == PROGRAM) {
        words.remove(0);
    }
    words
}

fn meaning(typed: &[String], default: Option<&Audience>) -> CliResult<Line> {
    let command = match args::parse_line(typed) {
        Ok(command) => command,
        Err(ParseExit::Help(help)) => return Ok(Line::Show(help.render().to_string())),
        Err(ParseExit::Wrong(error)) => return Err(error),
    };
    Ok(match command {
        PromptCommand::Request(args) => {
            let request = parsing::request(&args.words, InputContext::Prompt(default))?;
            Line::Request(request, args.send, args.output, args.follow)
        }
        PromptCommand::Clients(ClientsArgs { action: Some(ClientsAction::Forget { names, output, .. }), .. }) => {
            Line::Forget(names, output)
        }
        PromptCommand::Clients(args) => Line::Clients(args.output),
        PromptCommand::History(args) => Line::History(args),
        PromptCommand::Commands(args) => Line::Commands(args.targets, args.output),
        PromptCommand::Schema(args) => Line::Schema(args.name, args.output),
        PromptCommand::Use { targets } if targets.is_empty() => Line::Use(None),
        PromptCommand::Use { targets } => Line::Use(Some(parsing::target(&targets)?)),
        PromptCommand::Help { command } if command.is_empty() => Line::Show(help::overview()),
        PromptCommand::Help { mut command } => {
            command.push("--help".to_owned());
            return meaning(&command, default);
        }
        PromptCommand::Quit => Line::Quit,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

    use super::*;
    use crate::duration::Span;
    use crate::text::Place;

    fn parse(line: &str) -> CliResult<Line> {
        let worker = Audience::Clients(vec!["worker-1".parse().unwrap()]);
        read(line, Some(&worker))
    }

    fn request(line: &str) -> (Request, SendArgs) {
        match parse(line) {
            Ok(Line::Request(request, send, ..)) => (request, send),
            other => panic!("{line}: {other:?}"),
        }
    }

    fn wrong(line: &str) -> String {
        shown(line, parse(line))
    }

    /// The same where there are several clients, and `use` has named none.
    fn wrong_for_nobody(line: &str) -> String {
        shown(line, read(line, None))
    }

    fn shown(line: &str, read: CliResult<Line>) -> String {
        match read {
            Err(failure) => failure.lines(Place::Prompt).map(|(_, line)| line).collect::<Vec<_>>().join(" | "),
            other => panic!("{line}: {other:?}"),
        }
    }

    fn text(line: &str) -> String {
        match parse(line) {
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
            assert_eq!(request(short).0, request(long).0, "{short}");
        }
        assert_ne!(request("ping worker-2").0, request("ping").0);
        assert_eq!(request("ping @all").0.audience, Audience::All);
        assert_eq!(request("ping @web").0.audience, Audience::Group("web".parse().unwrap()));
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
        let told = "something is missing: only `1` was given | [TARGET…] X MSG | calculate worker-1 2.5 \"all done\"";
        assert_eq!(wrong("calculate 1"), told);
    }

    #[test]
    fn what_was_meant_for_a_shell_is_read_without_the_name_of_the_program() {
        assert_eq!(request("countersign ping worker-2").0, request("ping worker-2").0);
        assert!(matches!(parse("countersign quit"), Ok(Line::Quit)));
        assert_eq!(text("countersign"), help::overview());
        assert!(wrong("countersign init").ends_with("in a shell: countersign init"));
    }

    #[test]
    fn a_line_that_begins_with_an_option_is_told_what_is_wrong_with_it() {
        assert_eq!(wrong("-o json pnig"), "there is no command `pnig` | one that `help` lists | -o json ping");
        assert_eq!(wrong("--timeout 1s"), "no command is named | <COMMAND> [OPTIONS] | help");
        assert!(wrong("--foo").starts_with("unexpected argument '--foo' found"));
        assert!(wrong("-o json init --client x").starts_with("`init` is not for the prompt"));
        assert_eq!(request("--timeout 1s ping").1.timeout, Some(Span::from_millis(1_000)));
    }

    #[test]
    fn an_option_that_a_line_does_not_name_is_as_the_session_has_it() {
        let session = request("ping --timeout 9s --retry").1;
        assert_eq!(request("ping").1.or(&session).timeout, Some(Span::from_millis(9_000)));
        let send = request("ping --timeout 1s --detach").1.or(&session);
        assert_eq!((send.timeout, send.detach, send.retry), (Some(Span::from_millis(1_000)), true, true));
        assert!(!request("ping").1.or(&session).detach);
    }

    #[test]
    fn what_belongs_to_the_session_cannot_be_changed_by_a_line() {
        for option in ["--nats-url nats://x:1", "--keys other", "--as bob", "--realm other", "-v", "-q"] {
            assert!(wrong(&format!("ping {option}")).contains("means nothing to `ping` | ping --help"), "{option}");
        }
    }

    #[test]
    fn a_typo_is_told_with_what_may_have_been_meant() {
        assert_eq!(wrong("pnig worker-1"), "there is no command `pnig` | one that `help` lists | ping worker-1");
        assert!(wrong("zzz").starts_with("there is no command `zzz`"));
        assert!(wrong("\u{1b}[2J").contains("\\u{1b}"));
        assert!(wrong("calculate \"open").contains("never closed"));
        assert!(wrong("ping @web worker-1").contains("beside other targets"));
        for (line, meant) in [
            ("calculate worker-1 2.5 All done -o json", "calculate worker-1 2.5 \"All done\" -o json"),
            ("calculate 30 much later", "calculate 30 \"much later\""),
            ("call calculate x=1 msg=all done", "call calculate x=1 msg=\"all done\""),
            ("call calculate x=1 mesg=hi", "call calculate x=1 msg=hi"),
            ("call calculate --tiemout=5s x=1 msg=\"all done\"", "call calculate --timeout=5s x=1 msg=\"all done\""),
            ("ping worker-1 -o jsn", "ping worker-1 -o json"),
            ("clients forgt worker-7", "clients forget worker-7"),
            ("help pnig", "help ping"),
            ("countersign pnig -- -x", "ping -- -x"),
        ] {
            assert!(wrong(line).ends_with(&format!(" | {meant}")), "{line}: {}", wrong(line));
        }
        assert!(wrong("embroider").ends_with("a command, and after it its targets | help"));
        assert!(wrong("init").contains("not for the prompt"));
        for line in ["client", "client --name worker-1", "help init", "init --help", "schemas", "completions bash"] {
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
        let long = request(&format!("calculate 1 -- -{}", "a".repeat(100))).0;
        assert_eq!(long.call.args["msg"].as_str().map(str::len), Some(101));
        request(&format!("call ping --args={{\\\"x\\\":\\\"{}\\\"}}", "a".repeat(100)));
    }

    #[test]
    fn a_comment_and_an_empty_line_say_nothing() {
        for line in ["", "   ", "# ping worker-1"] {
            assert!(matches!(parse(line), Ok(Line::Nothing)), "{line:?}");
        }
    }

    #[test]
    fn every_command_has_help_that_names_no_shell() {
        for command in args::prompt_commands() {
            let help = text(&format!("help {command}"));
            assert!(!help.contains(&format!("countersign {command}")), "{help}");
            assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
        }
        assert!(text("ping --help").contains("Usage: ping [OPTIONS] [TARGET]..."));
        assert!(text("help use").contains("Usage: use [TARGET]..."));
        assert!(wrong("help pnig").contains("ping"));
    }

    #[test]
    fn help_shows_what_may_be_left_out_and_nothing_that_only_a_shell_can_do() {
        for (command, form) in [
            ("ping", "[TARGET]..."),
            ("calculate", "[TARGET]... <X> <MSG>"),
            ("cancel", "[TARGET]... <COMMAND-ID>"),
            ("result", "[TARGET]... <COMMAND-ID>"),
            ("call", "[TARGET]... <NAME> [KEY=VALUE]..."),
        ] {
            let help = text(&format!("help {command}"));
            assert!(help.contains(&format!("Usage: {command} [OPTIONS] {form}\n")), "{help}");
            assert!(!["<TARGET>", "standard input", " | "].iter().any(|shell| help.contains(shell)), "{help}");
        }
    }

    #[test]
    fn help_is_shown_however_it_is_asked_for() {
        for line in ["help", "?", "--help", "-h"] {
            assert_eq!(text(line), help::overview(), "{line}");
        }
        for line in ["help clients forget", "clients forget --help"] {
            assert!(text(line).contains("Usage: clients forget [OPTIONS] <NAME>..."), "{line}");
        }
    }
}

//! What `help` at the prompt shows.

use countersign_protocol::command::Builtin;

use crate::args::{CALL_ABOUT, WAIT_ABOUT};
use crate::builtin::describe;

/// All that can be typed, each with a line.
pub(super) fn overview() -> String {
    let builtins = Builtin::ALL.iter().map(|builtin| {
        let descriptor = describe(*builtin);
        let params = descriptor.params.iter().map(|param| format!(" {}", param.name)).collect::<String>();
        (format!("{builtin} [TARGET…]{params}"), descriptor.about)
    });
    let wait = ("wait [TARGET…] COMMAND-ID".to_owned(), WAIT_ABOUT);
    let call = ("call [TARGET…] NAME".to_owned(), CALL_ABOUT);
    let lines: String = builtins.chain([wait, call]).map(|(form, about)| format!("  {form:28}{about}\n")).collect();
    format!("{WALK}\n{lines}\n{HERE}")
}

const WALK: &str = "\
A first walk, with one client (nothing else to learn for it):
  start                       let the client take data commands
  calculate 2.5 \"all done\"    it computes 2.5 seconds, then prints the text
  terminate                   end it; it cleans up and exits

For clients; TARGET is a client, several, @group or @all, and may be left out
after `use TARGET`, or where there is exactly one client:";

const HERE: &str = "\
Here:
  use TARGET · use            set the target · set none
  clients                     who is there, in which groups and states
  clients forget NAME…        remove retired ones
  commands [TARGET…]          what there is to call, and where it differs
  history [COMMAND-ID]        what was sent from here, and what came of it
  schema [NAME]               a JSON Schema, or the names of all
  help [COMMAND]              this, or more on one command and its options
  quit · exit                 leave; so does Ctrl-D. What runs goes on

Tab completes. What takes long goes on in the background; Ctrl-C offers to
cancel it. Lines that begin with `event:` are the clients' own reports.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overview_names_every_command_of_the_prompt() {
        let overview = overview();
        let is_there = |command: &str| ["\n  ", "· "].iter().any(|it| overview.contains(&format!("{it}{command} ")));
        let missing: Vec<String> =
            crate::args::prompt_commands().into_iter().filter(|it| it != "?" && !is_there(it)).collect();
        assert_eq!(missing, [""; 0]);
        assert!(overview.lines().all(|line| line.chars().count() <= 80), "{overview}");
    }
}

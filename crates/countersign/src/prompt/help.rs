//! What the prompt teaches.

use super::line::COMMANDS;

/// What `help` shows.
pub(super) const OVERVIEW: &str = "\
A first walk, with one client (nothing else to learn for it):
  start                       let the client take data commands
  calculate 2.5 \"all done\"    it computes 2.5 seconds, then prints the text
  terminate                   end it; it cleans up and exits

For clients; TARGET is a client, several, @group or @all, and may be left out
after `use TARGET`, or where there is exactly one client:
  start [TARGET…]             unready → ready: data commands run from now on
  stop [TARGET…]              ready → unready; what runs goes on
  terminate [TARGET…]         end the client: jobs cancelled, process gone
  ping [TARGET…]              its clock, as a sign of life; when ready
  calculate [TARGET…] X MSG   compute X seconds, then print MSG; when ready
  call [TARGET…] NAME --args JSON   any other command that clients registered
  status [TARGET…]            state, jobs, version, commands, trust
  jobs [TARGET…]              what runs, and what ended within the hour
  result [TARGET…] ID         what a command came to
  cancel [TARGET…] ID         cancel a job

Here:
  use TARGET · use            set the target · set none
  clients                     who is there, in which groups and states
  clients forget NAME…        strike retired ones
  schema [NAME]               a JSON Schema, or the names of all
  help [COMMAND]              this, or more on one command and its options
  quit                        leave; so does Ctrl-D. What runs goes on

Tab completes. What takes long goes on in the background; Ctrl-C offers to
cancel it. Lines that begin with `event:` are said by clients unasked.
";

/// A text that speaks of commands in a shell, as they are typed here.
pub(crate) fn at_the_prompt(help: &str) -> String {
    let spoken = |text: String, command: &&str| text.replace(&format!("countersign {command}"), command);
    COMMANDS.iter().fold(help.to_owned(), spoken)
}

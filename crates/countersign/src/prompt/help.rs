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
  terminate [TARGET…]         end the client: jobs cancelled, the process exits
  ping [TARGET…]              its clock, to see that it responds; when ready
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

/// A text that speaks of commands in a shell, as they are typed here: without `countersign` where the prompt has the command,
/// and with targets that may be left out.
pub(super) fn at_the_prompt(text: &str) -> String {
    let text = text.replace("countersign [OPTIONS] <COMMAND>", "<COMMAND> [OPTIONS]");
    let text = text.replace("countersign --help", "help").replace("<TARGET>...", "[TARGET]...");
    let mut parts = text.split("countersign ");
    let mut spoken = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let command = part.split(|it: char| !it.is_ascii_lowercase()).next().unwrap_or_default();
        if !COMMANDS.contains(&command) {
            spoken.push_str("countersign ");
        }
        spoken.push_str(part);
    }
    spoken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_command_that_the_prompt_has_is_spoken_without_the_program() {
        for (shell, prompt) in [
            ("`countersign jobs TARGET` lists the ids", "`jobs TARGET` lists the ids"),
            ("countersign ping [OPTIONS] <TARGET>...", "ping [OPTIONS] [TARGET]..."),
            ("countersign schema, countersign schemas", "schema, countersign schemas"),
            ("in a shell: countersign client --name x", "in a shell: countersign client --name x"),
            ("one of those that `countersign --help` lists", "one of those that `help` lists"),
            ("countersign [OPTIONS] <COMMAND>", "<COMMAND> [OPTIONS]"),
            ("countersign ", "countersign "),
        ] {
            assert_eq!(at_the_prompt(shell), prompt);
        }
    }
}

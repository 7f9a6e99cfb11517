//! The pages, word for word: the README's commands are run and its session is typed; the other pages' commands are at least
//! right.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fleet::Fleet;
use crate::process::Process;
use crate::pty::{CTRL_D, Pty};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// The blocks of a page that are fenced as a language.
fn blocks(page: &str, language: &str) -> Vec<Vec<String>> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(fenced) = line.strip_prefix("```") {
            let block: Vec<String> = lines.by_ref().take_while(|line| *line != "```").map(str::to_owned).collect();
            if fenced == language {
                blocks.push(block);
            }
        }
    }
    blocks
}

/// The commands in a page's shell blocks, without their comments, block by block.
fn commands(page: &str) -> Vec<Vec<String>> {
    let bare = |line: String| line.split("  #").next().unwrap_or_default().trim().to_owned();
    let commands = |block: Vec<String>| {
        block.into_iter().map(bare).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
    };
    blocks(page, "sh").into_iter().map(commands).collect()
}

/// A shell in the fleet's folder, in which `countersign` is the one under test.
fn shell(fleet: &Fleet, line: &str) -> Command {
    let like = fleet.command(&[]);
    let bin = Path::new(like.get_program()).parent().unwrap().to_owned();
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).current_dir(fleet.path());
    shell.env_clear().envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()));
    shell
}

/// The job that `jobs` lists first.
fn job(fleet: &Fleet) -> String {
    let jobs = fleet.run(&["jobs", "worker-1", "-o", "json"]).of("worker-1");
    jobs["result"]["jobs"][0]["command_id"].as_str().unwrap().to_owned()
}

#[test]
fn every_command_of_the_readme_does_what_the_readme_says() {
    let fleet = Fleet::of(&["worker-1", "worker-2:web"]);
    with_examples(&fleet);
    // As the page has it started, with the programs.
    let client =
        |name| fleet.client_as(name, fleet.command(&["client", "--name", name, "--commands", "examples/commands.d"]));
    let [mut worker, _other] = ["worker-1", "worker-2"].map(client);
    let mut run = 0;
    for block in commands(&page("README.md")) {
        // As `./just up` does for a reader who comes back to the page.
        let roster = fleet.run(&["clients", "-o", "json"]).json();
        if roster["clients"][0]["state"] == "terminated" {
            // It holds its name until its process is gone.
            worker.wait().exits(0);
            worker = client("worker-1");
        }
        for line in block.into_iter().filter(|line| line.contains("countersign ") && line != "countersign server") {
            run += 1;
            if line.starts_with("countersign watch") {
                let mut watch = Process::spawn(shell(&fleet, &line));
                watch.stderr.wait_for("watching cs.demo.>");
                continue;
            }
            let line = if line.contains("COMMAND-ID") { line.replace("COMMAND-ID", &job(&fleet)) } else { line };
            // The example in Rust is not this fleet's client, whose `disk_usage` takes no arguments and refuses these.
            let expected = i32::from(line.contains("disk_usage --args"));
            let ran = Process::spawn(shell(&fleet, &line)).wait();
            assert_eq!(ran.code, Some(expected), "{line}\n{ran:#?}");
        }
    }
    assert!(run > 15, "{run} commands were found");
}

/// The folder of examples, as a checkout by anybody has it.
fn with_examples(fleet: &Fleet) {
    let to = fleet.path().join("examples/commands.d");
    fs::create_dir_all(&to).unwrap();
    crate::programs::copy_examples(&to);
}

#[test]
fn the_session_in_the_readme_is_what_one_sees() {
    let page = page("README.md");
    let session = blocks(&page, "text").into_iter().next().unwrap();
    let fleet = Fleet::new();
    let _worker = fleet.client("worker-1");
    let mut command = fleet.command(&["server"]);
    command.env("XDG_STATE_HOME", fleet.path().join("xdg"));
    let mut person = Pty::spawn(&command);
    let mut typed = 0;
    // The output after a typed line comes in any order, and the next line is typed when all of it is there.
    let mut expected: Vec<String> = Vec::new();
    for line in &session {
        match line.split_once("> ") {
            None => expected.push(steady(line)),
            Some((prompt, text)) => {
                let all = std::mem::take(&mut expected);
                person.wait_until(&format!("{all:?}"), |shown| all.iter().all(|line| steady(shown).contains(line)));
                person.wait_for(&format!("{prompt}> "));
                person.line(text);
                typed += 1;
            }
        }
    }
    person.wait_until(&format!("{expected:?}"), |shown| expected.iter().all(|line| steady(shown).contains(line)));
    person.wait_for("countersign> ");
    person.keys(CTRL_D);
    assert_eq!((person.wait().0, typed), (Some(0), 6));
}

/// A text without what differs from one run to the next.
fn steady(text: &str) -> String {
    let is_id = |word: &str| word.len() == 36 && word.split('-').map(str::len).eq([8, 4, 4, 4, 12]);
    // Lines end with a carriage return on a terminal.
    let without_ids = |word: &str| if is_id(word.trim_end()) { "ID".to_owned() } else { word.to_owned() };
    let text = text.split(' ').map(|word| word.split('\n').map(without_ids).collect::<Vec<_>>().join("\n"));
    let text = text.collect::<Vec<_>>().join(" ");
    let mut steady = String::new();
    let mut digits = false;
    for character in text.chars() {
        if character.is_ascii_digit() {
            if !digits {
                steady.push('7');
            }
            digits = true;
        } else if !(digits && character == '.') {
            steady.push(character);
            digits = false;
        }
    }
    steady.replace(" 7 ms", " 7 s")
}

#[test]
fn every_command_of_the_other_pages_is_one_that_can_be_typed() {
    let fleet = Fleet::without_stream(&["worker-1"]);
    let mut found = 0;
    for name in ["docs/operations.md", "CONTRIBUTING.md", "SECURITY.md", "keys/README.md"] {
        for line in commands(&page(name)).into_iter().flatten() {
            let Some(arguments) = line.strip_prefix("countersign ").filter(|line| !line.contains('|')) else {
                continue;
            };
            found += 1;
            // What a shell does with the output is not the command's.
            let words: Vec<&str> = arguments.split_whitespace().take_while(|word| *word != ">").collect();
            // Nothing is done: what cannot be read is found before the broker, which is not there.
            let mut command = fleet.command(&words);
            command.env("NATS_URL", "nats://127.0.0.1:1").env("COUNTERSIGN_KEYS", "no-such-folder");
            // The issuer waits for a broker.
            if !["init", "issuer"].contains(&words[0]) {
                let ran = Process::spawn(command).wait();
                // What `doctor` finds is an answer, also where it is bad.
                let is_answered = !ran.stdout.is_empty();
                assert!(ran.code != Some(2) || is_answered, "{name}: {line}\n{ran:#?}");
            }
        }
    }
    assert!(found > 5, "{found} commands were found");
}

#[test]
fn every_recipe_that_the_pages_name_is_there() {
    let justfile = page("justfile");
    let is_recipe = |word: &str| justfile.lines().any(|line| line.split([' ', ':']).next() == Some(word));
    let mut found = 0;
    for name in ["README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/operations.md", "docs/benchmarks.md"] {
        for after in page(name).split("./just ").skip(1) {
            let word: String = after.chars().take_while(char::is_ascii_lowercase).collect();
            if !word.is_empty() {
                found += 1;
                assert!(is_recipe(&word) || word == "alone", "{name} names `./just {word}`");
            }
        }
    }
    assert!(found > 10, "{found} recipes were found");
}

#[test]
fn every_link_of_the_pages_leads_somewhere() {
    for name in
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "docs/operations.md", "docs/protocol.md"]
    {
        let page = page(name);
        let folder = root().join(name).parent().unwrap().to_owned();
        for target in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap();
            // The pattern of names looks like a link.
            if !path.is_empty() && !path.contains("://") && !path.contains('[') {
                assert!(folder.join(path).exists(), "{name} links to {target}");
            }
        }
    }
}

//! What is kept of an error: a report holds one for each target, and others wrote it.

use countersign_machine::server::Options;
use countersign_protocol::reply::{ErrorBody, ErrorCode, Outcome};
use serde_json::{Value, json};

use super::common::{World, calculate};

/// The outcomes that carry an error, with details of so many values.
fn errors(values: usize) -> Vec<Outcome> {
    // The list that holds the others is one.
    let details = json!({ "all": vec![Value::Null; values - 1] });
    let error = |code| ErrorBody { details: details.as_object().cloned(), ..ErrorBody::new(code, "it failed") };
    vec![
        Outcome::Failed(error(ErrorCode::Failed)),
        Outcome::Refused(error(ErrorCode::InvalidArgs)),
        Outcome::Cancelled(error(ErrorCode::Cancelled)),
        Outcome::Interrupted(error(ErrorCode::Interrupted)),
    ]
}

#[test]
fn the_details_of_an_error_are_kept_up_to_256_values_and_beyond_that_the_error_alone() {
    let world = World::new();
    for (values, is_kept) in [(256, true), (257, false), (16_000, false)] {
        for outcome in errors(values) {
            let word = outcome.status().to_string();
            let mut server = world.request(calculate(), &["worker-1"], Options::default()).unwrap();
            let command = server.sent[0].clone();
            server.take(&world.answer(&command, outcome));
            let error = server.verdict("worker-1").error().unwrap();
            assert_eq!((server.word("worker-1"), error.message.as_str()), (word.as_str(), "it failed"));
            assert_eq!(error.details.is_some(), is_kept, "{word} with {values} values");
        }
    }
}

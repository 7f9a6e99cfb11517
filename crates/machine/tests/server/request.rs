//! Sections 3 and 4: what is sent.

use countersign_machine::server::{Audience, CommandRequest, Options, RequestError};
use countersign_protocol::command::{Target, True};
use countersign_protocol::limits::MAX_BODY;
use countersign_testkit::realm::{START, name};
use serde_json::json;

use super::common::{World, at, call, dry_run, epoch, ping, request};

#[test]
fn a_list_of_clients_is_one_command_to_each_under_one_id_and_one_reply_to() {
    let world = World::new();
    let stored = [world.presence("worker-2", |_| ())];
    let server = world.request_to(ping(), &["worker-2", "worker-1"], &stored, Options::default()).unwrap();

    let commands: Vec<_> = server.sent.iter().map(|signed| world.command(signed)).collect();
    let [first, second] = commands.as_slice() else { panic!("one each") };
    assert_eq!((first.id, &first.reply_to), (second.id, &second.reply_to));
    assert_eq!(first.reply_to, format!("cs.demo.reply.alice.k3v9q2m8x7c1b5n0.{}", first.id));
    assert_eq!((&first.to, &second.to), (&Target::Client(name("worker-1")), &Target::Client(name("worker-2"))));
    assert_eq!(first.subject, "cs.demo.cmd.client.worker-1");
    assert_eq!(second.subject, "cs.demo.cmd.client.worker-2");
    assert_eq!((first.epoch, second.epoch), (None, Some(epoch(1))), "only what verified presence says");
    assert_eq!((first.issued_at, first.expires_at, first.dry_run), (START, at(30_000), None));
}

#[test]
fn a_client_named_twice_gets_one_command() {
    let server = World::new().request(ping(), &["worker-1", "worker-1"], Options::default()).unwrap();
    assert_eq!(server.sent.len(), 1);
}

#[test]
fn nothing_is_sent_to_an_empty_set() {
    let refused = World::new().request(ping(), &[], Options::default()).err();
    let audience = Audience::Clients(Vec::new());
    assert_eq!(refused, Some(RequestError::Nobody { audience, ended: 0, out_of_reach: 0 }));
}

#[test]
fn nothing_is_sent_to_a_name_that_neither_the_keys_nor_the_roster_know() {
    let refused = World::new().request(ping(), &["worker-1", "worker-9"], Options::default()).err();
    assert_eq!(refused, Some(RequestError::UnknownClient(name("worker-9"))));
}

#[test]
fn invalid_arguments_are_found_before_anything_is_sent() {
    let refused = CommandRequest::new(call("calculate", json!({ "x": 86_401, "msg": "done" })), false);
    let Err(RequestError::Arguments { command, errors }) = refused else { panic!("86,401 seconds are too long") };
    assert_eq!(command.as_str(), "calculate");
    assert_eq!(errors.iter().map(|error| error.path.as_str()).collect::<Vec<_>>(), ["/x"]);
}

#[test]
fn a_registered_command_is_sent_with_any_arguments_that_are_json_of_section_3() {
    let world = World::new();
    let deep = (0..40).fold(json!(1), |inner, _| json!([inner]));
    let refused = world.request(request("press", json!({ "deep": deep })), &["worker-1"], Options::default()).err();
    assert!(matches!(refused, Some(RequestError::Envelope(_))), "{refused:?}");
    let refused = world.request(request("press", json!({ "n": u64::MAX })), &["worker-1"], Options::default()).err();
    assert!(matches!(refused, Some(RequestError::Envelope(_))), "{refused:?}");
    let sent = world.request(request("press", json!({ "n": [1, { "a": null }] })), &["worker-1"], Options::default());
    assert_eq!(sent.unwrap().sent.len(), 1);
}

#[test]
fn a_body_of_exactly_the_limit_is_sent_and_one_byte_more_is_not() {
    let world = World::new();
    let send = |filler: usize| {
        let request = request("press", json!({ "text": "x".repeat(filler) }));
        world.request(request, &["worker-1"], Options::default())
    };
    let overhead = send(0).unwrap().sent[0].body.len();
    assert_eq!(send(MAX_BODY - overhead).unwrap().sent[0].body.len(), MAX_BODY);
    assert_eq!(send(MAX_BODY - overhead + 1).err(), Some(RequestError::TooLarge { got: MAX_BODY + 1 }));
}

#[test]
fn a_dry_run_says_so() {
    let world = World::new();
    let server = world.request(dry_run(), &["worker-1"], Options::default()).unwrap();
    assert_eq!(world.command(&server.sent[0]).dry_run, Some(True));
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let world = World::new();
    let bytes = || world.request(ping(), &["worker-1"], Options::default()).unwrap().sent[0].body.clone();
    assert_eq!(bytes(), bytes());
}

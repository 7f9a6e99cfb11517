//! Where a command may run, and where its replies go.

use countersign_protocol::envelope::{MessageType, Signed};
use serde_json::{Value, json};

use crate::fleet::Fleet;
use crate::forge::{Forger, commands, id_of, is_end_of_job, replies_to};
use crate::process::Process;

#[test]
fn a_captured_command_runs_nowhere_but_where_it_was_sent() {
    let fleet = Fleet::of(&["worker-1:web", "worker-2:web"]);
    let workers = [fleet.client("worker-1"), fleet.client("worker-2")];
    fleet.run(&["start", "worker-1", "worker-2"]).exits(0);
    let mut observer = fleet.observer();
    fleet.run(&["calculate", "worker-1", "0", "genuine"]).exits(0);
    let observed = observer.until("the end of the job", is_end_of_job);
    let genuine = commands(&observed, "worker-1", "calculate")[0].signed();
    let forger = Forger::new(&fleet);
    for subject in ["cs.demo.cmd.client.worker-2", "cs.demo.cmd.all", "cs.demo.cmd.group.web"] {
        forger.peer.borrow().send_to(subject, &genuine);
    }
    fleet.dropped("worker-1", &[("address", 2)]);
    fleet.dropped("worker-2", &[("address", 3)]);
    assert_eq!(replies_to(&observer.so_far(), &id_of(&genuine).to_string()).len(), 0, "and nobody answers it");
    fleet.run(&["ping", "worker-1", "worker-2"]).exits(0);
    assert_eq!(workers.map(Process::printed), ["genuine\n", ""]);
}

#[test]
fn a_body_whose_subject_target_or_realm_do_not_fit_each_other_is_dropped() {
    let fleet = Fleet::of(&["worker-1", "worker-2"]);
    let _worker = fleet.client("worker-1");
    fleet.run(&["start", "worker-1"]).exits(0);
    let forger = Forger::new(&fleet);
    let throw = |change: &dyn Fn(&mut Value)| {
        let mut body = forger.terminate();
        change(&mut body);
        forger.send(&forger.sign_bytes(body.to_string().into_bytes()));
    };
    // Rightly signed, and on worker-1's subject all of them.
    throw(&|body| body["to"] = json!({ "client": "worker-2" }));
    throw(&|body| body["to"] = json!({ "all": true }));
    throw(&|body| body["subject"] = json!("cs.demo.cmd.client.worker-2"));
    throw(&|body| body["subject"] = json!("cs.demo.cmd.client.*"));
    throw(&|body| body["realm"] = json!("other"));
    throw(&|body| body["from"] = json!("bob"));
    let epoch_to_all = {
        let mut body = forger.terminate();
        body["to"] = json!({ "all": true });
        body["subject"] = json!("cs.demo.cmd.all");
        forger.identity.sign(MessageType::Command, "cs.demo.cmd.all".to_owned(), body.to_string().into_bytes())
    };
    forger.send(&epoch_to_all);
    // An epoch belongs into a command to one client only, whatever else is wrong with it.
    let expected = [("address", 3), ("envelope", 2), ("realm", 1), ("credential", 1)];
    assert_eq!(fleet.dropped("worker-1", &expected)["state"], "ready");
    assert_eq!(forger.request(&forger.command("ping", json!({})))["status"], "succeeded");
}

#[test]
fn a_reply_to_that_is_not_the_operators_own_is_dropped_and_nothing_is_published_there() {
    let (fleet, _worker) = Fleet::ready();
    let mut observer = fleet.observer();
    let forger = Forger::new(&fleet);
    let own = forger.draft("ping", json!({})).command.reply_to;
    let thrown = [
        "cs.x.cmd.>".to_owned(),
        "cs.demo.cmd.client.worker-2".to_owned(),
        "$SYS.REQ.SERVER.PING".to_owned(),
        "$JS.API.STREAM.DELETE.cs-demo-presence".to_owned(),
        own.replace(".alice.", ".bob."),
        own.replace(".demo.", ".other."),
        own.replace(".alice.", ".*."),
        own.replace(".alice.", ".>."),
        own.replace(".reply.", ".event."),
        format!("{own} x"),
        format!("{own}\r\nPUB x 0"),
        own[..own.len() - 1].to_owned() + "0",
        String::new(),
    ];
    for reply_to in &thrown {
        let command = forger.draft("terminate", json!({})).with(|command| command.reply_to.clone_from(reply_to));
        forger.send(&command.sign(&forger.identity));
    }
    assert_eq!(fleet.dropped("worker-1", &[("address", thrown.len() as u64)])["state"], "ready");
    // Besides its events, the client has sent only the replies to the honest `status` of this test.
    for message in observer.so_far() {
        let by_worker = message.json()["from"] == "worker-1";
        let honest = message.subject.starts_with("cs.demo.reply.alice.")
            || message.subject.starts_with("cs.demo.event.worker-1.");
        assert!(!by_worker || honest, "{}", message.subject);
    }
    fleet.run(&["ping", "worker-1"]).exits(0);
}

#[test]
fn the_reply_goes_to_the_signed_reply_to_whatever_reply_subject_nats_has() {
    let (fleet, _worker) = Fleet::ready();
    let mut observer = fleet.observer();
    let forger = Forger::new(&fleet);
    let command = forger.command("ping", json!({}));
    let headers = countersign_testkit::hostile::signed_headers(&command);
    let redirected = "cs.demo.event.worker-1.presence";
    forger.peer.borrow().publish(&command.subject, Some(redirected), Some(&headers), &command.body);
    let reply = forger.reply_to(&command);
    assert_eq!(reply.json()["status"], "succeeded");
    let Signed { body, .. } = command;
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(reply.subject, format!("{}.worker-1", body["reply_to"].as_str().unwrap()));
    fleet.status("worker-1");
    let observed = observer.so_far();
    let answers = replies_to(&observed, body["id"].as_str().unwrap());
    assert_eq!(answers.len(), 1, "one answer");
    assert!(observed.iter().all(|message| message.subject != redirected || message.json()["kind"] == "presence"));
}

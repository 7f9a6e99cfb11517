//! `ping`.

use countersign_protocol::command::{NoArgs, PingResult};

use crate::command::{Context, DataCommand, Failure, Immediate};

/// `ping`: the current Unix timestamp, in seconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ping;

impl DataCommand for Ping {
    const NAME: &'static str = "ping";
    const DESCRIPTION: &'static str = "Answers with the client's Unix time in seconds.";
    type Args = NoArgs;
    type Output = PingResult;
}

impl Immediate for Ping {
    fn run(&self, _: NoArgs, context: &Context) -> Result<PingResult, Failure> {
        Ok(PingResult(context.now.seconds()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use countersign_protocol::id::MessageId;
    use countersign_protocol::time::Millis;

    use super::*;

    #[test]
    fn ping_returns_the_unix_time_in_seconds() {
        let now = Millis::new(1_795_485_600_999);
        let context = Context { command_id: MessageId::new(now, [1; 10]), operator: "alice".parse().unwrap(), now };
        assert_eq!(Ping.run(NoArgs {}, &context).unwrap(), PingResult(1_795_485_600));
    }
}

//! The state machine of section 4: unready –start→ ready, ready –stop→ unready, either –terminate→ terminated.

pub use countersign_protocol::reply::State;

/// What `start` leads to, and whether that is a change.
pub(super) fn start(state: State) -> (State, bool) {
    match state {
        State::Unready => (State::Ready, true),
        State::Ready | State::Terminated => (state, false),
    }
}

/// What `stop` leads to, and whether that is a change.
pub(super) fn stop(state: State) -> (State, bool) {
    match state {
        State::Ready => (State::Unready, true),
        State::Unready | State::Terminated => (state, false),
    }
}

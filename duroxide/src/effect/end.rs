//! The effects of the end of an execution: the status and the answer to the parent, or the start of the next execution.

use semver::Version;

use super::TurnBuilder;
use crate::history::{Callee, Failure, Input};
use crate::id::{CallId, ExecutionId, MessageId};
use crate::message::{Lane, Message};
use crate::payload::Payload;
use crate::provider::{InstanceStatus, MessageRow, Outgoing, Then};
use crate::replay::{UnseenCancel, in_instance};

impl TurnBuilder<'_> {
    pub(super) fn complete(&mut self, output: Payload) {
        self.end(InstanceStatus::Completed, |call| Input::ChildCompleted { call }, output);
    }

    pub(super) fn fail(&mut self, status: InstanceStatus, failure: Failure, error: Payload) {
        if status == InstanceStatus::Failed {
            self.turn.cause = Some(self.info.causes.of_failure(&failure, &error));
        }
        let name = &self.info.started.name;
        let callee = || Box::new(Callee::Orchestration { name: name.clone() });
        let callee = (failure != Failure::Application).then(callee);
        let failure = in_instance(failure, &self.info.execution.instance);
        self.end(status, |call| Input::ChildFailed { call, failure, callee }, error);
    }

    fn end(&mut self, status: InstanceStatus, answer: impl FnOnce(CallId) -> Input, payload: Payload) {
        self.turn.then = Then::Finish { status };
        if let Some(parent) = &self.info.started.parent {
            let message = Message::new(answer(parent.call), payload).for_execution(parent.execution.number);
            let ExecutionId { instance, identity, .. } = &parent.execution;
            self.send(instance.clone(), Some(*identity), message);
        }
    }

    pub(super) fn continue_as_new(&mut self, version: Option<Version>, input: Payload) {
        self.turn.then = Then::ContinueAsNew { version: version.clone() };
        let next = self.info.execution.number + 1;
        let mut started = self.info.started.clone();
        started.version = version;
        started.request = None;
        started.seed = crate::random::bits();
        let start = Message::new(Input::Started(Box::new(started)), input).in_lane(Lane::Start).for_execution(next);
        self.send_to_self(start);
        if let Some(UnseenCancel { reason, by }) = self.leftovers.cancel.take() {
            let cancel = Input::CancelRequested { reason, parent: None, by };
            self.send_to_self(Message::new(cancel, Payload::NULL).in_lane(Lane::Carried));
        }
        for row in std::mem::take(&mut self.carried) {
            let ExecutionId { instance: to, identity, .. } = self.info.execution.clone();
            let message = MessageRow { id: MessageId::new(), lane: Lane::Carried, number: None, ..row };
            self.turn.messages.push(Outgoing { to, identity: Some(identity), message });
        }
    }
}

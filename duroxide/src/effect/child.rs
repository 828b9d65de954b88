//! The effects of a child orchestration or a detached start: the new instance, and the message that closes it.

use super::TurnBuilder;
use crate::history::{ChildScheduled, Input, Parent, Started};
use crate::id::{CallId, InstanceId};
use crate::message::Message;
use crate::payload::Payload;
use crate::policy::ClosePolicy;
use crate::provider::{MessageRow, NewChild, NewInstance};

impl TurnBuilder<'_> {
    pub(super) fn schedule_child(&mut self, child: ChildScheduled, input: Payload) {
        let execution = self.info.execution;
        let instance = child.instance_in(execution);
        let ChildScheduled { call, name, version, detached, .. } = child;
        let answer = |input| MessageRow::from(&Message::new(input, Payload::NULL).for_execution(execution.number));
        let parent = (!detached).then(|| Parent { execution: execution.clone(), call });
        let reason = format!("instance id {instance:?} is taken");
        let eager = self.claims.orchestration(&name, version.as_ref());
        let headers = self.info.started.headers.clone();
        let labels = Default::default();
        let started = Started { name, version, seed: crate::random::bits(), parent, headers, labels, request: None };
        self.turn.starts.push(NewChild {
            new: NewInstance::started(instance, started, input, eager),
            accepted: detached.then(|| answer(Input::StartAccepted { call })),
            if_taken: answer(Input::StartRejected { call, reason }),
        });
    }

    pub(super) fn child_dropped(&mut self, call: CallId, child: InstanceId, policy: ClosePolicy) {
        self.close_child(call, child, policy, "its call was dropped".to_owned());
    }

    pub(super) fn close_open_child(&mut self, call: CallId, child: InstanceId, policy: ClosePolicy) {
        self.close_child(call, child, policy, format!("its parent {} has ended", self.info.execution));
    }

    /// Closes a child whose outcome is no longer wanted. The message names the parent, since the id may be that of
    /// another instance: then the start was refused, and the refusal is on its way.
    fn close_child(&mut self, call: CallId, child: InstanceId, policy: ClosePolicy, reason: String) {
        let parent = Some(Box::new(Parent { execution: self.info.execution.clone(), call }));
        let input = match policy {
            ClosePolicy::Cancel => Input::CancelRequested { reason, parent, by: None },
            ClosePolicy::Terminate => Input::TerminateRequested { reason, parent, by: None },
            ClosePolicy::Abandon => return,
        };
        let before = self.turn.starts.len();
        self.turn.starts.retain(|start| start.new.parent.as_ref().is_none_or(|parent| parent.call != call));
        if self.turn.starts.len() < before {
            // An earlier step of this turn has scheduled the child: it is never created.
            return;
        }
        self.send(child, None, Message::new(input, Payload::NULL));
    }
}

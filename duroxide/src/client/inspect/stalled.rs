//! The reasons of an instance whose code does not run: it is suspended, has not begun, or its owner is gone.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::text::Span;
use super::why::{Action, Blame, Why, WhyState};
use super::{Fact, Inspection};
use crate::error::Suspension;
use crate::id::Epoch;
use crate::provider::{ActivityRecord, DepartedNode};

impl Inspection {
    pub(super) fn suspended(&self, suspension: &Suspension) -> Why {
        let place = suspension.place.as_ref().map(|place| format!(", at {place}")).unwrap_or_default();
        let mut text = format!("It is suspended: {} {}{place}.", suspension.code, suspension.message);
        let tried = self.tried(suspension);
        match &tried[..] {
            [] => {}
            [build] => text += &format!(" Build {build} has tried it, too, in vain."),
            builds => text += &format!(" Builds {} have tried it, too, in vain.", builds.join(", ")),
        }
        let mut why = Why::new(WhyState::Suspended, text).since(self.status.updated_at);
        why = why.wants(Blame::Code, Action::Resume);
        why.actions.insert(1, Action::Reset);
        why.actions.splice(0..0, suspension.unread.map(|_| Action::DropMessage));
        why.at = suspension.place.as_deref().map(Arc::from);
        why.facts.push(Fact::Suspension(Box::new(suspension.clone())));
        why.facts.extend(self.status.cause.clone().map(Fact::Cause));
        why.facts.extend((!tried.is_empty()).then_some(Fact::Tried(tried)));
        why
    }

    /// Returns the builds of live nodes with the code of the instance, except for the one that has suspended it. Each of them
    /// has tried it: the storage suspends an instance only if no member is left that can try it.
    fn tried(&self, suspension: &Suspension) -> Vec<String> {
        let Some(by) = &suspension.build else { return Vec::new() };
        let version = self.status.version.as_ref().map(ToString::to_string);
        let infos = self.nodes.iter().map(|node| &node.info);
        let others = infos.filter(|info| info.build != *by);
        let able = others.filter(|info| info.handlers.has_code(&self.status.name, version.as_deref()));
        let builds: BTreeSet<_> = able.map(|info| info.build.clone()).collect();
        builds.into_iter().collect()
    }

    /// Returns the parked activity for which the instance is shown as suspended. An instance that its own code has suspended
    /// has a cause, and no owner.
    pub(super) fn parked(&self) -> Option<&ActivityRecord> {
        let is_shown = self.status.cause.is_none() || self.owner.is_some();
        self.activities.open.iter().find(|activity| activity.parked).filter(|_| is_shown)
    }

    pub(super) fn activity_is_parked(&self, activity: &ActivityRecord, suspension: &Suspension) -> Why {
        let text = format!("Its activity `{}` is parked: {} {}.", activity.name, suspension.code, suspension.message);
        let why = Why::new(WhyState::Parked, text).since(self.status.updated_at);
        let mut why = why.wants(Blame::Code, Action::Resume);
        let wait = self.waits.iter().find(|wait| self.is_of(wait, activity));
        why.at = wait.and_then(|wait| wait.at.clone());
        why.facts.push(Fact::Suspension(Box::new(suspension.clone())));
        why.facts.extend(activity.cause.clone().map(Fact::Cause));
        why
    }

    pub(super) fn not_begun(&self) -> Why {
        let created = self.ago(self.status.created_at);
        let Some(begins) = self.begins_at.filter(|begins| *begins > self.now) else {
            let text = format!("It has not begun; it was created {created} ago.");
            return Why::new(WhyState::NotBegun, text).since(self.status.created_at);
        };
        let left = Span(begins.since(self.now));
        let text = format!("It begins at {begins} (in {left}); it was created {created} ago.");
        let mut why = Why::new(WhyState::NotBegun, text).since(self.status.created_at);
        why.actions.insert(0, Action::Wake);
        why.until = Some(begins);
        why
    }

    pub(super) fn owner_is_gone(&self, owner: Epoch) -> Why {
        let departed = self.departed.iter().find(|departed| departed.node.epoch == owner);
        let (text, since) = match departed {
            Some(DepartedNode { node, left_at, seen_at, .. }) => {
                let name = &node.info.name;
                let text = format!(
                    "Its owner, {name}, is gone since {left_at} (its last sign of life was at {seen_at}); another node \
                     takes it over."
                );
                (text, *seen_at)
            }
            None => (format!("Its owner, node {owner}, is gone; another node takes it over."), self.status.updated_at),
        };
        Why::new(WhyState::OwnerGone, text).since(since)
    }

    /// Returns the reason if the owner, whose turn it is, has shown no sign of life for two thirds of its lease time: two of
    /// its renewals are missing.
    pub(super) fn owner_is_silent(&self) -> Option<Why> {
        let node = self.member(self.owner?)?;
        let seen = node.seen_at?;
        let lease = node.info.lease_time;
        if self.now.since(seen) < lease * 2 / 3 {
            return None;
        }
        let (name, taken_over) = (&node.info.name, seen + lease);
        let text =
            format!("It is owned by {name}, which is silent since {seen}; it is taken over from {taken_over} on.");
        let mut why = Why::new(WhyState::OwnerGone, text).since(seen).fact(Fact::Node(name.clone()));
        why.until = Some(taken_over);
        Some(why)
    }
}

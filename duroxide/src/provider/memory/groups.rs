//! Counts instances, activities and timers.

use super::state::{Activity, Instance, State};
use super::*;

impl State {
    pub(super) fn groups(&self, of: Subject, filter: &Filter, by: &[Dimension]) -> Groups {
        let mut grouping = Grouping::default();
        match of {
            Subject::Instances => self.group_instances(filter, by, &mut grouping),
            Subject::Activities => self.group_activities(filter, by, &mut grouping),
            Subject::Timers => self.group_timers(filter, by, &mut grouping),
        }
        grouping.finish(true)
    }

    fn matching<'a>(&'a self, filter: &Filter, id: &'a InstanceId) -> Option<&'a Instance> {
        self.instances.get(id).filter(|instance| self.matches(filter, id, instance))
    }

    fn group_instances(&self, filter: &Filter, by: &[Dimension], grouping: &mut Grouping) {
        for (id, instance) in self.instances.iter().filter(|(id, instance)| self.matches(filter, id, instance)) {
            let key = by.iter().map(|dimension| self.of_instance(dimension, id, instance)).collect();
            let oldest = Some(instance.created_at).filter(|_| !instance.status.is_finished());
            let next = instance.ready.map(|ready| match ready {
                Ready::AtOnce(time) | Ready::At(time) => time,
            });
            grouping.add(Group { key, count: 1, oldest, next });
        }
    }

    fn group_activities(&self, filter: &Filter, by: &[Dimension], grouping: &mut Grouping) {
        for (id, activity) in &self.activities {
            let id = &id.execution.instance;
            let Some(instance) = self.matching(filter, id) else { continue };
            let ready = Some(activity.ready).filter(|_| activity.owner.is_none() && !activity.parked);
            let (oldest, next) = match ready {
                Some(Ready::AtOnce(since)) => (Some(since), None),
                Some(Ready::At(due)) => (None, Some(due)),
                None => (None, None),
            };
            let value = |dimension: &Dimension| match dimension {
                Dimension::Minute => next.map(Dimension::minute),
                dimension => of_activity(dimension, activity, || self.of_instance(dimension, id, instance)),
            };
            grouping.add(Group { key: by.iter().map(value).collect(), count: 1, oldest, next });
        }
    }

    fn group_timers(&self, filter: &Filter, by: &[Dimension], grouping: &mut Grouping) {
        for message in self.messages.values() {
            let (Some(due), Some(instance)) = (message.row.visible_at, self.matching(filter, &message.to)) else {
                continue;
            };
            if instance.status.is_finished() {
                continue;
            }
            let value = |dimension: &Dimension| match dimension {
                Dimension::Minute => Some(Dimension::minute(due)),
                dimension => self.of_instance(dimension, &message.to, instance),
            };
            grouping.add(Group { key: by.iter().map(value).collect(), count: 1, oldest: None, next: Some(due) });
        }
    }

    fn of_instance(&self, dimension: &Dimension, id: &InstanceId, instance: &Instance) -> Option<String> {
        match dimension {
            Dimension::Name => Some(instance.name.clone()),
            Dimension::Version => instance.version.as_ref().map(ToString::to_string),
            Dimension::Status => Some(self.shown_status(id, instance).to_string()),
            Dimension::Node => instance.owner.map(|owner| owner.0.to_string()),
            Dimension::Waits => instance.waits.as_ref().map(|waits| waits.text.clone()),
            Dimension::Cause => self.shown_cause(id, instance),
            Dimension::Code => self.cause_of_suspension(id, instance).map(Dimension::code),
            Dimension::Label(name) => instance.labels.get(name).cloned(),
            Dimension::Tag | Dimension::State | Dimension::Minute => None,
        }
    }
}

fn of_activity(
    dimension: &Dimension,
    activity: &Activity,
    of_instance: impl FnOnce() -> Option<String>,
) -> Option<String> {
    let Activity { name, tag, attempt, owner, parked, cause, .. } = activity;
    match dimension {
        Dimension::Name => Some(name.clone()),
        Dimension::Node => owner.map(|owner| owner.0.to_string()),
        Dimension::Tag => tag.clone(),
        Dimension::Cause => cause.clone(),
        Dimension::State => Some(ActivityState::of(*attempt, owner.is_some(), *parked).to_string()),
        _ => of_instance(),
    }
}

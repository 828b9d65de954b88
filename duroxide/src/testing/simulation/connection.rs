//! The way of one process to the storage: whatever it calls passes here, and may go wrong before and after.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, try_join_all};
use tokio::sync::watch;

use super::storage::Footprint;
use super::world::{Course, Fault, Process, World, pause};
use crate::clock::Timestamp;
use crate::id::{Epoch, EventId, ExecutionId, InstanceId};
use crate::provider::*;
use crate::runtime::RuntimeOptions;

/// A provider for one process: for one life of a node, or for clients. Clones are the same.
#[derive(Clone)]
pub(super) struct Connection(Arc<Inner>);

struct Inner {
    world: Arc<World>,
    process: Process,
    /// The node is dead: nothing that it calls is carried out or answered.
    dead: watch::Sender<bool>,
    /// The signals that come through to a node. Clients hear those of the storage itself.
    wakeups: Wakeups,
    /// The epochs that this life of the node was given, whether it knows or not.
    epochs: Mutex<Vec<Epoch>>,
    /// How many calls of a client have gone wrong in a row: one that waits for long enough gets an answer.
    failed: AtomicU32,
}

/// Calls of a client that go wrong in a row, at most. Clients ask again for ten seconds.
const CLIENT_FAILURES: u32 = 3;
/// How long each way of such a call takes at most, so that the client does not give up meanwhile.
const CLIENT_DELAY: Duration = Duration::from_millis(500);

impl Connection {
    pub(super) fn new(world: &Arc<World>, process: Process) -> Self {
        let wakeups = match process {
            Process::Client => world.storage.visible().wakeups().clone(),
            Process::Node(_) => Wakeups::default(),
        };
        Self(Arc::new(Inner {
            world: world.clone(),
            process,
            dead: watch::Sender::new(false),
            wakeups,
            epochs: Mutex::default(),
            failed: AtomicU32::new(0),
        }))
    }

    /// Ends this life of the node, as if its process had been killed.
    pub(super) fn die(&self) {
        if !self.0.dead.send_replace(true) {
            self.0.world.crashed();
            self.0.world.trace(|| format!("{} dies", self.0.process));
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        *self.0.dead.borrow()
    }

    /// Waits until this life of the node is over.
    pub(super) async fn died(&self) {
        // The sender is held by `self`, so waiting cannot fail.
        let _ = self.0.dead.subscribe().wait_for(|dead| *dead).await;
    }

    /// Holds up whoever is dead.
    pub(super) async fn if_alive(&self) {
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn epochs(&self) -> Vec<Epoch> {
        self.0.epochs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells the node that there may be work.
    pub(super) fn wake(&self) {
        self.0.wakeups.work();
    }

    async fn course(&self, what: &'static str, writes: bool, in_part: bool) -> Course {
        self.if_alive().await;
        let Inner { world, process, failed, .. } = &*self.0;
        let mut course = world.course(*process, writes, in_part);
        if *process == Process::Client {
            let in_a_row = if course.fault.is_some() { failed.load(Ordering::Relaxed) + 1 } else { 0 };
            if in_a_row > CLIENT_FAILURES {
                course.fault = None;
            }
            course.before = course.before.min(CLIENT_DELAY);
            course.after = course.after.min(CLIENT_DELAY);
            failed.store(in_a_row % (CLIENT_FAILURES + 1), Ordering::Relaxed);
        }
        world.trace(|| {
            let fault = course.fault.map(|fault| format!(" {fault:?}")).unwrap_or_default();
            format!("{process} calls {what}{fault}")
        });
        course
    }

    /// Makes a call, or does not, as its course says.
    async fn call<T: Send + 'static>(
        &self,
        what: &'static str,
        course: Course,
        carry_out: impl Future<Output = Result<T, ProviderError>> + Send + 'static,
        show: impl FnOnce(&T) -> String,
    ) -> Result<T, ProviderError> {
        let Inner { world, process, .. } = &*self.0;
        pause(course.before).await;
        if self.is_dead() && course.writes && world.chance(0.5) {
            // The request of a node that has died meanwhile was on its way already.
            let _ = carry_out.await;
            return std::future::pending().await;
        }
        self.if_alive().await;
        let mut answer = Err(ProviderError::retryable(what, "injected by the simulation"));
        match course.fault {
            Some(Fault::Error | Fault::InPart) => {}
            Some(Fault::CrashBefore) => self.die(),
            Some(Fault::Late) => {
                let delay = world.delay() + Duration::from_millis(1);
                tokio::spawn(async move {
                    pause(delay).await;
                    let _ = carry_out.await;
                });
            }
            Some(Fault::LostAnswer | Fault::CrashAfter) | None => {
                let given = carry_out.await;
                if let Ok(given) = &given {
                    world.trace(|| format!("{process} {what}: {}", show(given)));
                }
                match course.fault {
                    Some(Fault::CrashAfter) => self.die(),
                    Some(_) => {}
                    None => answer = given,
                }
            }
        }
        self.if_alive().await;
        pause(course.after).await;
        self.if_alive().await;
        answer
    }

    /// Commits; some of the entries fail, if that is the course.
    async fn commit_entries(
        &self,
        lease: Lease,
        mut entries: Vec<Arc<Commit>>,
    ) -> Result<Vec<Result<Committed, CommitError>>, ProviderError> {
        let mut course = self.course("commit", true, entries.len() > 1).await;
        let in_part = course.fault == Some(Fault::InPart);
        let fails: Vec<bool> = entries.iter().map(|_| in_part && self.0.world.chance(0.5)).collect();
        if in_part {
            course.fault = None;
            let mut each = fails.iter();
            entries.retain(|_| each.next() != Some(&true));
        }
        let this = self.clone();
        this.0.world.trace(|| {
            format!("{} commits {}", self.0.process, entries.iter().map(|entry| show_commit(entry)).collect::<String>())
        });
        let carry_out = async move {
            let writes = entries.into_iter().map(|entry| this.commit_entry(lease, entry));
            try_join_all(writes).await
        };
        let answers = self.call("commit", course, carry_out, |answers| format!("{answers:?}")).await?;
        let mut answers = answers.into_iter();
        let failed = || Err(CommitError::Failed("injected by the simulation".to_owned()));
        Ok(fails.iter().filter_map(|fails| if *fails { Some(failed()) } else { answers.next() }).collect())
    }

    async fn commit_entry(
        &self,
        lease: Lease,
        entry: Arc<Commit>,
    ) -> Result<Result<Committed, CommitError>, ProviderError> {
        let (this, world) = (self.clone(), self.0.world.clone());
        let footprint = Footprint::of_commit(&lease, &entry);
        let apply = move |storage: &MemoryProvider, begun| {
            let answer = storage.finish_commit(begun, &lease, (*entry).clone());
            world.observe(|record| record.committed(&lease, vec![entry], std::slice::from_ref(&answer)));
            answer
        };
        self.0.world.storage.write(footprint, move || this.is_dead(), apply).await
    }

    async fn submit_entry(&self, entry: Submission) -> Result<Result<Submitted, SubmitError>, ProviderError> {
        let (this, world, process) = (self.clone(), self.0.world.clone(), self.0.process);
        let footprint = Footprint::of_submission(&entry);
        let apply = move |storage: &MemoryProvider, begun| {
            let answer = storage.finish_submission(begun, entry.clone());
            world.observe(|record| record.submitted(process, vec![entry], std::slice::from_ref(&answer)));
            answer
        };
        self.0.world.storage.write(footprint, move || this.is_dead(), apply).await
    }

    /// Makes a call that changes nothing.
    async fn read<T: Send + 'static>(
        &self,
        what: &'static str,
        read: impl Future<Output = Result<T, ProviderError>> + Send + 'static,
    ) -> Result<T, ProviderError> {
        let course = self.course(what, false, false).await;
        self.call(what, course, read, |_| "read".to_owned()).await
    }
}

impl ProviderLayer for Connection {
    fn inner(&self) -> &dyn Provider {
        self.0.world.storage.visible()
    }

    fn join<'a>(&'a self, node: &'a NodeInfo) -> BoxFuture<'a, Result<Lease, ProviderError>> {
        let (this, node) = (self.clone(), node.clone());
        Box::pin(async move {
            let course = self.course("join", false, false).await;
            let carry_out = async move {
                let world = this.0.world.clone();
                let ended = move |epoch| world.observe(|record| record.gone(epoch));
                let lease = this.0.world.storage.join(&node, ended).await?;
                this.0.epochs.lock().unwrap_or_else(PoisonError::into_inner).push(lease.epoch);
                this.0.world.observe(|record| record.joined(node.id, lease));
                Ok(lease)
            };
            self.call("join", course, carry_out, |lease| format!("epoch {}", lease.epoch)).await
        })
    }

    fn renew<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<Renewal, ProviderError>> {
        let (world, lease) = (self.0.world.clone(), *lease);
        Box::pin(async move {
            let course = self.course("renew", false, false).await;
            let carry_out = async move {
                let renewed = world.storage.visible().renew(&lease).await?;
                // The storage holds every lease until it is told that the node is dead; nodes must not rely on that.
                let held = matches!(renewed, Renewal::Held { .. });
                Ok(if held { Renewal::Held { valid_for: RuntimeOptions::new().lease_time } } else { renewed })
            };
            self.call("renew", course, carry_out, |renewal| format!("{renewal:?}")).await
        })
    }

    fn leave<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), ProviderError>> {
        let (world, lease) = (self.0.world.clone(), *lease);
        Box::pin(async move {
            let course = self.course("leave", false, false).await;
            let carry_out = async move {
                let observed = world.clone();
                let ended = move || observed.observe(|record| record.gone(lease.epoch));
                world.storage.take_over(lease.epoch, false, ended).await
            };
            self.call("leave", course, carry_out, |()| "left".to_owned()).await
        })
    }

    fn acquire<'a>(&'a self, lease: &'a Lease, want: Want) -> BoxFuture<'a, Result<Acquired, ProviderError>> {
        let (world, lease) = (self.0.world.clone(), *lease);
        Box::pin(async move {
            let course = self.course("acquire", true, false).await;
            let carry_out = async move {
                let observe = |acquired: &Acquired| world.observe(|record| record.acquired(&lease, acquired));
                world.storage.acquire(&lease, want, observe).await
            };
            self.call("acquire", course, carry_out, show_acquired).await
        })
    }

    fn commit<'a>(
        &'a self,
        lease: &'a Lease,
        entries: Vec<Arc<Commit>>,
    ) -> BoxFuture<'a, Result<Vec<Result<Committed, CommitError>>, ProviderError>> {
        Box::pin(self.commit_entries(*lease, entries))
    }

    fn submit(
        &self,
        entries: Vec<Submission>,
    ) -> BoxFuture<'_, Result<Vec<Result<Submitted, SubmitError>>, ProviderError>> {
        let this = self.clone();
        Box::pin(async move {
            let handed_in = entries.clone();
            self.0.world.record().client_begins(&handed_in);
            let course = self.course("submit", true, false).await;
            let Inner { world, process, .. } = &*self.0;
            world.trace(|| format!("{process} submits {}", entries.iter().map(show_submission).collect::<String>()));
            let carry_out =
                async move { try_join_all(entries.into_iter().map(|entry| this.submit_entry(entry))).await };
            let answer = self.call("submit", course, carry_out, |answers| format!("{answers:?}")).await;
            if answer.is_ok() {
                self.0.world.record().client_is_told(&handed_in);
            }
            answer
        })
    }

    fn history<'a>(
        &'a self,
        execution: &'a ExecutionId,
        after: EventId,
    ) -> BoxFuture<'a, Result<HistoryPage, ProviderError>> {
        let (world, execution) = (self.0.world.clone(), execution.clone());
        Box::pin(self.read("history", async move { world.storage.visible().history(&execution, after).await }))
    }

    fn instance<'a>(
        &'a self,
        instance: &'a InstanceId,
    ) -> BoxFuture<'a, Result<Option<InstanceRecord>, ProviderError>> {
        let (world, instance) = (self.0.world.clone(), instance.clone());
        Box::pin(self.read("instance", async move { world.storage.visible().instance(&instance).await }))
    }

    fn watch<'a>(&'a self, instance: &'a InstanceId) -> BoxFuture<'a, Result<Option<InstanceRecord>, ProviderError>> {
        self.instance(instance)
    }

    fn admin(&self) -> Option<&dyn Admin> {
        Some(self)
    }

    fn wakeups(&self) -> &Wakeups {
        &self.0.wakeups
    }
}

impl Admin for Connection {
    fn list<'a>(&'a self, filter: &'a Filter, page: &'a Page) -> BoxFuture<'a, Result<InstancePage, ProviderError>> {
        let (world, filter, page) = (self.0.world.clone(), filter.clone(), page.clone());
        Box::pin(self.read("list", async move { world.storage.visible().list(&filter, &page).await }))
    }

    fn delete<'a>(
        &'a self,
        instances: &'a [InstanceId],
    ) -> BoxFuture<'a, Result<Vec<Result<(), DeleteError>>, ProviderError>> {
        let (world, instances) = (self.0.world.clone(), instances.to_vec());
        Box::pin(async move {
            let course = self.course("delete", false, false).await;
            let carry_out = async move {
                let answers = world.storage.visible().delete(&instances).await?;
                world.observe(|record| record.deleted(&instances, &answers));
                Ok(answers)
            };
            self.call("delete", course, carry_out, |answers| format!("{answers:?}")).await
        })
    }

    fn prune<'a>(
        &'a self,
        filter: &'a Filter,
        before: Timestamp,
        batch: &'a Page,
    ) -> BoxFuture<'a, Result<Pruned, ProviderError>> {
        let (world, filter, batch) = (self.0.world.clone(), filter.clone(), batch.clone());
        Box::pin(async move {
            let course = self.course("prune", false, false).await;
            let carry_out = async move {
                let pruned = world.storage.visible().prune(&filter, before, &batch).await?;
                let there = world.storage.visible().all_executions();
                world.observe(|record| record.pruned(&there));
                Ok(pruned)
            };
            self.call("prune", course, carry_out, |pruned| format!("{pruned:?}")).await
        })
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeRecord>, ProviderError>> {
        let world = self.0.world.clone();
        Box::pin(self.read("nodes", async move { world.storage.visible().nodes().await }))
    }
}

fn show_acquired(acquired: &Acquired) -> String {
    let instances: Vec<_> = acquired.instances.iter().map(show_instance).collect();
    let activities: Vec<_> = acquired.activities.iter().map(|a| a.id.to_string()).collect();
    let claim = acquired.claim;
    format!("claim {claim}: instances {instances:?}, activities {activities:?}, next {:?}", acquired.next_due)
}

fn show_instance(instance: &AcquiredInstance) -> String {
    let messages: Vec<_> = instance.messages.iter().map(|m| format!("{:?} {}", m.number, m.data)).collect();
    format!("{} after {} with {} {messages:?}", instance.execution, instance.last_event, instance.arrivals)
}

fn show_submission(entry: &Submission) -> String {
    match entry {
        Submission::Start(StartRequest { new, .. }) => format!("start of {}; ", new.instance),
        Submission::Send(SendRequest { to, message, .. }) => format!("message {} to {to}; ", message.id),
        Submission::Terminate { turn, .. } => format!("end of {}; ", turn.execution),
        Submission::Resume { instance, .. } => format!("resumption of {instance}; "),
    }
}

fn show_commit(entry: &Commit) -> String {
    match &entry.write {
        Write::Turn(turn) => {
            let read: Vec<_> = turn.consumed.iter().map(ToString::to_string).collect();
            format!("turn of {}, {} events, messages {read:?} read; ", turn.execution, turn.events.len())
        }
        other => format!("{other:?}; "),
    }
}

//! The connection of one process to the storage. It delays each call, and injects faults before and after it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, try_join_all};
use tokio::sync::watch;

use super::storage::Footprint;
use super::world::{CallPlan, Fault, Process, World, pause};
use crate::clock::Timestamp;
use crate::id::{Epoch, EventId, ExecutionId, InstanceId};
use crate::node::RuntimeOptions;
use crate::provider::*;

/// The provider of one process: of one incarnation of a node, or of clients. Clones share it.
#[derive(Clone)]
pub(super) struct Connection(Arc<Inner>);

struct Inner {
    world: Arc<World>,
    process: Process,
    /// True once the node has crashed: its calls are no longer carried out or answered.
    dead: watch::Sender<bool>,
    /// The signals that reach a node, each after a delay. Clients subscribe to those of the storage.
    wakeups: Wakeups,
    /// The epochs of this incarnation of the node, including those whose answers were lost.
    epochs: Mutex<Vec<Epoch>>,
    /// The number of consecutive failed calls of a client, which is limited so that a client that retries gets an
    /// answer.
    failed: AtomicU32,
}

/// The limit of consecutive failed calls of a client, which retries for a minute.
const CLIENT_FAILURES: u32 = 3;
/// The longest delay before and after a call of a client, so that its retries do not reach their deadline.
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

    /// Crashes this incarnation of the node, as if its process had been killed.
    pub(super) fn die(&self) {
        if !self.0.dead.send_replace(true) {
            self.0.world.crashed();
            self.0.world.trace(|| format!("{} crashes", self.0.process));
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        *self.0.dead.borrow()
    }

    /// Waits until this incarnation of the node has crashed.
    pub(super) async fn died(&self) {
        // The sender is held by `self`, so waiting cannot fail.
        let _ = self.0.dead.subscribe().wait_for(|dead| *dead).await;
    }

    /// Never resolves if the process has crashed, so that its code does not continue.
    pub(super) async fn halt_if_dead(&self) {
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn epochs(&self) -> Vec<Epoch> {
        self.0.epochs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Signals the node that there may be work.
    pub(super) fn wake(&self) {
        self.0.wakeups.work();
    }

    async fn plan_call(&self, operation: &'static str, writes: bool, in_part: bool) -> CallPlan {
        self.halt_if_dead().await;
        let Inner { world, process, failed, .. } = &*self.0;
        let mut plan = world.plan_call(*process, writes, in_part);
        if *process == Process::Client {
            let in_a_row = if plan.fault.is_some() { failed.load(Ordering::Relaxed) + 1 } else { 0 };
            if in_a_row > CLIENT_FAILURES {
                plan.fault = None;
            }
            plan.before = plan.before.min(CLIENT_DELAY);
            plan.after = plan.after.min(CLIENT_DELAY);
            failed.store(in_a_row % (CLIENT_FAILURES + 1), Ordering::Relaxed);
        }
        world.trace(|| {
            let fault = plan.fault.map(|fault| format!(" {fault:?}")).unwrap_or_default();
            format!("{process} calls {operation}{fault}")
        });
        plan
    }

    /// Makes a call with the delays and the fault of its plan.
    async fn call<T: Send + 'static>(
        &self,
        operation: &'static str,
        plan: CallPlan,
        request: impl Future<Output = Result<T, ProviderError>> + Send + 'static,
        show: impl FnOnce(&T) -> String,
    ) -> Result<T, ProviderError> {
        let Inner { world, process, .. } = &*self.0;
        pause(plan.before).await;
        if self.is_dead() && plan.writes && world.chance(0.5) {
            // The node has crashed in the meantime, but its request was already on its way.
            let _ = request.await;
            return std::future::pending().await;
        }
        self.halt_if_dead().await;
        let mut answer = Err(ProviderError::retryable(operation, "injected by the simulation"));
        match plan.fault {
            Some(Fault::Error | Fault::InPart) => {}
            Some(Fault::CrashBefore) => self.die(),
            Some(Fault::Late) => {
                let delay = world.delay() + Duration::from_millis(1);
                tokio::spawn(async move {
                    pause(delay).await;
                    let _ = request.await;
                });
            }
            Some(Fault::LostAnswer | Fault::CrashAfter) | None => {
                let given = request.await;
                if let Ok(given) = &given {
                    world.trace(|| format!("{process} {operation}: {}", show(given)));
                }
                match plan.fault {
                    Some(Fault::CrashAfter) => self.die(),
                    Some(_) => {}
                    None => answer = given,
                }
            }
        }
        self.halt_if_dead().await;
        pause(plan.after).await;
        self.halt_if_dead().await;
        answer
    }

    /// Commits the entries. Some of them fail, or are locked, if the fault of the call is [`Fault::InPart`].
    async fn commit_entries(
        &self,
        lease: Lease,
        mut entries: Vec<Arc<Commit>>,
    ) -> Result<Vec<Result<Committed, CommitError>>, ProviderError> {
        let mut plan = self.plan_call("commit", true, entries.len() > 1).await;
        let in_part = plan.fault == Some(Fault::InPart);
        let fails: Vec<bool> = entries.iter().map(|_| in_part && self.0.world.chance(0.5)).collect();
        if in_part {
            plan.fault = None;
            let mut each = fails.iter();
            entries.retain(|_| each.next() != Some(&true));
        }
        let (this, sent) = (self.clone(), entries.clone());
        this.0.world.trace(|| {
            format!("{} commits {}", self.0.process, entries.iter().map(|entry| show_commit(entry)).collect::<String>())
        });
        let request = async move {
            let writes = entries.into_iter().map(|entry| this.commit_entry(lease, entry));
            try_join_all(writes).await
        };
        let answers = self.call("commit", plan, request, |answers| format!("{answers:?}")).await?;
        let done = sent.iter().zip(&answers).filter(|(_, answer)| answer.is_ok());
        done.for_each(|(commit, _)| self.0.world.record().answered.commit(commit));
        let mut answers = answers.into_iter();
        let failed = || {
            let is_locked = self.0.world.chance(0.5);
            Err(if is_locked {
                CommitError::Locked
            } else {
                CommitError::Failed("injected by the simulation".to_owned())
            })
        };
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

    /// Makes a call that only reads.
    async fn read<T: Send + 'static>(
        &self,
        operation: &'static str,
        read: impl Future<Output = Result<T, ProviderError>> + Send + 'static,
    ) -> Result<T, ProviderError> {
        let plan = self.plan_call(operation, false, false).await;
        self.call(operation, plan, read, |_| "read".to_owned()).await
    }
}

impl ProviderLayer for Connection {
    fn inner(&self) -> &dyn Provider {
        self.0.world.storage.visible()
    }

    fn join<'a>(&'a self, node: &'a NodeInfo) -> BoxFuture<'a, Result<Lease, ProviderError>> {
        let (this, node) = (self.clone(), node.clone());
        Box::pin(async move {
            let plan = self.plan_call("join", false, false).await;
            let request = async move {
                let world = this.0.world.clone();
                let ended = move |epoch| world.observe(|record| record.epoch_ended(epoch));
                let lease = this.0.world.storage.join(&node, ended).await?;
                this.0.epochs.lock().unwrap_or_else(PoisonError::into_inner).push(lease.epoch);
                this.0.world.observe(|record| record.joined(node.id, lease));
                Ok(lease)
            };
            self.call("join", plan, request, |lease| format!("epoch {}", lease.epoch)).await
        })
    }

    fn renew<'a>(&'a self, lease: &'a Lease, report: &'a NodeReport) -> BoxFuture<'a, Result<Renewal, ProviderError>> {
        let (world, lease, report) = (self.0.world.clone(), *lease, report.clone());
        Box::pin(async move {
            let plan = self.plan_call("renew", false, false).await;
            let request = async move {
                let renewed = world.storage.visible().renew(&lease, &report).await?;
                // The storage never expires this lease, but a node must not rely on that: give it the usual time.
                Ok(match renewed {
                    Renewal::Held { others, .. } => {
                        Renewal::Held { valid_for: RuntimeOptions::new().lease_time, others }
                    }
                    Renewal::Lost => Renewal::Lost,
                })
            };
            self.call("renew", plan, request, |renewal| format!("{renewal:?}")).await
        })
    }

    fn leave<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), ProviderError>> {
        let (world, lease) = (self.0.world.clone(), *lease);
        Box::pin(async move {
            let plan = self.plan_call("leave", false, false).await;
            let request = async move {
                let observed = world.clone();
                let ended = move || observed.observe(|record| record.epoch_ended(lease.epoch));
                world.storage.take_over(lease.epoch, false, ended).await
            };
            self.call("leave", plan, request, |()| "left".to_owned()).await
        })
    }

    fn acquire<'a>(&'a self, lease: &'a Lease, want: Want) -> BoxFuture<'a, Result<Acquired, ProviderError>> {
        let (world, lease) = (self.0.world.clone(), *lease);
        Box::pin(async move {
            let plan = self.plan_call("acquire", true, false).await;
            let request = async move {
                let observe = |acquired: &Acquired| world.observe(|record| record.acquired(&lease, acquired));
                world.storage.acquire(&lease, want, observe).await
            };
            self.call("acquire", plan, request, show_acquired).await
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
            let submitted = entries.clone();
            self.0.world.record().client_submits(&submitted);
            let plan = self.plan_call("submit", true, false).await;
            let Inner { world, process, .. } = &*self.0;
            world.trace(|| format!("{process} submits {}", entries.iter().map(show_submission).collect::<String>()));
            let request = async move { try_join_all(entries.into_iter().map(|entry| this.submit_entry(entry))).await };
            let answer = self.call("submit", plan, request, |answers| format!("{answers:?}")).await;
            if let Ok(answers) = &answer {
                let mut record = self.0.world.record();
                record.client_is_answered(&submitted);
                let done = submitted.iter().zip(answers).filter(|(_, answer)| answer.is_ok());
                done.for_each(|(submission, _)| record.answered.submission(submission));
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

    fn activities<'a>(
        &'a self,
        instance: &'a InstanceId,
    ) -> BoxFuture<'a, Result<Option<InstanceActivities>, ProviderError>> {
        let (world, instance) = (self.0.world.clone(), instance.clone());
        Box::pin(self.read("activities", async move { world.storage.visible().activities(&instance).await }))
    }

    fn events<'a>(
        &'a self,
        execution: &'a ExecutionId,
        query: &'a HistoryQuery,
    ) -> BoxFuture<'a, Result<EventPreviews, ProviderError>> {
        let (world, execution, query) = (self.0.world.clone(), execution.clone(), *query);
        Box::pin(self.read("events", async move { world.storage.visible().events(&execution, &query).await }))
    }

    fn messages<'a>(
        &'a self,
        instance: &'a InstanceId,
    ) -> BoxFuture<'a, Result<Option<MessagePreviews>, ProviderError>> {
        let (world, instance) = (self.0.world.clone(), instance.clone());
        Box::pin(self.read("messages", async move { world.storage.visible().messages(&instance).await }))
    }

    fn rows<'a>(&'a self, instance: &'a InstanceId) -> BoxFuture<'a, Result<Option<InstanceRows>, ProviderError>> {
        let (world, instance) = (self.0.world.clone(), instance.clone());
        Box::pin(self.read("rows", async move { world.storage.visible().rows(&instance).await }))
    }

    fn delete<'a>(
        &'a self,
        instances: &'a [InstanceId],
        audit: &'a [AuditEntry],
    ) -> BoxFuture<'a, Result<Vec<Result<(), DeleteError>>, ProviderError>> {
        let (world, instances, audit) = (self.0.world.clone(), instances.to_vec(), audit.to_vec());
        Box::pin(async move {
            let plan = self.plan_call("delete", false, false).await;
            let request = async move {
                let answers = world.storage.visible().delete(&instances, &audit).await?;
                world.observe(|record| record.deleted(&instances, &answers));
                Ok(answers)
            };
            self.call("delete", plan, request, |answers| format!("{answers:?}")).await
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
            let plan = self.plan_call("prune", false, false).await;
            let request = async move {
                let pruned = world.storage.visible().prune(&filter, before, &batch).await?;
                let there = world.storage.visible().all_executions();
                world.observe(|record| record.pruned(&there));
                Ok(pruned)
            };
            self.call("prune", plan, request, |pruned| format!("{pruned:?}")).await
        })
    }

    fn groups<'a>(
        &'a self,
        of: Subject,
        filter: &'a Filter,
        by: &'a [Dimension],
        limit: Duration,
    ) -> BoxFuture<'a, Result<Groups, ProviderError>> {
        let (world, filter, by) = (self.0.world.clone(), filter.clone(), by.to_vec());
        Box::pin(self.read("groups", async move { world.storage.visible().groups(of, &filter, &by, limit).await }))
    }

    fn record<'a>(&'a self, entries: &'a [AuditEntry]) -> BoxFuture<'a, Result<(), ProviderError>> {
        let (world, entries) = (self.0.world.clone(), entries.to_vec());
        Box::pin(self.read("record", async move { world.storage.visible().record(&entries).await }))
    }

    fn audit<'a>(&'a self, query: &'a AuditQuery, page: &'a Page) -> BoxFuture<'a, Result<AuditPage, ProviderError>> {
        let (world, query, page) = (self.0.world.clone(), query.clone(), page.clone());
        Box::pin(self.read("audit", async move { world.storage.visible().audit(&query, &page).await }))
    }

    fn prune_audit(&self, before: Timestamp, limit: usize) -> BoxFuture<'_, Result<u64, ProviderError>> {
        let world = self.0.world.clone();
        Box::pin(self.read("prune audit", async move { world.storage.visible().prune_audit(before, limit).await }))
    }

    fn departed_nodes(&self, limit: usize) -> BoxFuture<'_, Result<Vec<DepartedNode>, ProviderError>> {
        let world = self.0.world.clone();
        Box::pin(self.read("departed nodes", async move { world.storage.visible().departed_nodes(limit).await }))
    }

    fn builds(&self) -> BoxFuture<'_, Result<Vec<BuildRecord>, ProviderError>> {
        let world = self.0.world.clone();
        Box::pin(self.read("builds", async move { world.storage.visible().builds().await }))
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
        Submission::Suspend(request) => format!("pause of {}; ", request.instance),
        Submission::Wake(request) => format!("wake of {}; ", request.instance),
        Submission::Audited { submission, .. } => show_submission(submission),
        Submission::Resume { instance, .. } => format!("resumption of {instance}; "),
        Submission::Drop { instance, message } => format!("removal of message {message} to {instance}; "),
        Submission::Graft(graft) => format!("graft of {}; ", graft.execution()),
        Submission::Redact(request) => format!("erasure of {}; ", request.execution),
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

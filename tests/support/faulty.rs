//! A provider that injects the faults that a test plans.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use duroxide::id::{EventId, ExecutionId};
use duroxide::provider::*;
use duroxide::{InstanceId, Timestamp};
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::signalling;

/// A method of the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    Join,
    Renew,
    Leave,
    Acquire,
    Commit,
    Submit,
    History,
    Instance,
    List,
    Delete,
    Prune,
    Nodes,
}

/// A fault of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call is not carried out, and fails with a retryable error.
    Before,
    /// The call is carried out, and its answer is lost: it fails with a retryable error.
    AnswerLost,
    /// The call is not carried out, and fails with a permanent error.
    Permanent,
    /// The call is not carried out, and never answered.
    Hangs,
    /// The call is carried out, and never answered.
    AnswerHangs,
    /// The call waits before it is carried out, and so do later calls of the method, until [`Faults::release`].
    Waits,
    /// The call is carried out, and its answer waits, and so do those of later calls, until [`Faults::release_answers`].
    AnswerWaits,
    /// The first entry of the batch fails, the others are carried out.
    FirstEntry,
    /// The turns of a commit are refused with a conflict, as if another node had advanced their instances.
    TurnsRefused,
    /// A commit or a submission fails, but is carried out late: after [`Faults::release_late`].
    Late,
}

/// Plans the faults of a [`FaultyProvider`], and counts its calls.
#[derive(Clone, Default)]
pub struct Faults(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// A std mutex: locked briefly, never across an await.
    plan: Mutex<Plan>,
    /// Changes with the plan and with every call.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Plan {
    next: HashMap<Method, VecDeque<Option<Fault>>>,
    always: HashMap<Method, Fault>,
    held: HashMap<Method, bool>,
    answers_held: HashMap<Method, bool>,
    terminations_conflict: bool,
    late_released: bool,
    valid_for: Option<Duration>,
    begun: HashMap<Method, usize>,
    entered: HashMap<Method, usize>,
    events: Events,
}

/// The number of events that a [`FaultyProvider`] has passed through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Events {
    /// Events in the turns of commits.
    pub written: usize,
    /// Events in the pages of histories.
    pub read: usize,
}

impl Faults {
    /// Plans a fault for the next `times` calls of a method, after the calls that are planned already.
    pub fn next(&self, method: Method, fault: Fault, times: usize) {
        self.change(|plan| plan.next.entry(method).or_default().extend(std::iter::repeat_n(Some(fault), times)));
    }

    /// Plans no fault for the next `times` calls of a method, after the calls that are planned already.
    pub fn pass(&self, method: Method, times: usize) {
        self.change(|plan| plan.next.entry(method).or_default().extend(std::iter::repeat_n(None, times)));
    }

    /// Plans a fault for all calls of a method that have no plan of their own.
    pub fn always(&self, method: Method, fault: Fault) {
        self.change(|plan| plan.always.insert(method, fault));
    }

    /// Lets the calls of a method wait before they are carried out, until [`Self::release`].
    pub fn hold(&self, method: Method) {
        self.change(|plan| plan.held.insert(method, true));
    }

    /// Carries out the calls that wait.
    pub fn release(&self, method: Method) {
        self.change(|plan| plan.held.remove(&method));
    }

    /// Lets the answers of a method's later calls wait, until [`Self::release_answers`].
    pub fn hold_answers(&self, method: Method) {
        self.change(|plan| plan.answers_held.insert(method, true));
    }

    /// Returns the answers that wait.
    pub fn release_answers(&self, method: Method) {
        self.change(|plan| plan.answers_held.remove(&method));
    }

    /// Carries out the late calls, now and from now on.
    pub fn release_late(&self) {
        self.change(|plan| plan.late_released = true);
    }

    /// Refuses terminations with a conflict, as if the instance always advanced between the client's read and its request.
    pub fn refuse_terminations(&self) {
        self.change(|plan| plan.terminations_conflict = true);
    }

    /// Plans a fault for the n-th call of a method from now on, counted from 1. The future waits until the fault happens.
    pub fn nth(&self, method: Method, call: usize, fault: Fault) -> impl Future<Output = ()> {
        let position = self.change(|plan| {
            let next = plan.next.entry(method).or_default();
            next.extend(std::iter::repeat_n(None, call - 1).chain([Some(fault)]));
            plan.entered.get(&method).copied().unwrap_or(0) + call
        });
        self.until(move |plan| plan.entered.get(&method).copied().unwrap_or(0) >= position)
    }

    /// Removes all planned faults.
    pub fn heal(&self) {
        self.change(|plan| {
            plan.next.clear();
            plan.always.clear();
            plan.held.clear();
            plan.answers_held.clear();
            plan.terminations_conflict = false;
            plan.valid_for = None;
        });
    }

    /// Limits the time for which a renewed lease holds.
    pub fn limit_leases(&self, valid_for: Duration) {
        self.change(|plan| plan.valid_for = Some(valid_for));
    }

    /// Returns the number of calls of a method that have begun.
    pub fn begun(&self, method: Method) -> usize {
        self.plan().begun.get(&method).copied().unwrap_or(0)
    }

    /// Returns the number of events that were written and read.
    pub fn events(&self) -> Events {
        self.plan().events
    }

    /// Waits until this number of calls of a method have begun, counted from the first.
    pub async fn until_begun(&self, method: Method, calls: usize) {
        self.until(|plan| plan.begun.get(&method).copied().unwrap_or(0) >= calls).await;
    }

    /// Waits until this number of further calls of a method have begun.
    pub async fn until_more(&self, method: Method, calls: usize) {
        self.until_begun(method, self.begun(method) + calls).await;
    }

    async fn until(&self, condition: impl Fn(&Plan) -> bool) {
        let mut changes = self.0.changed.subscribe();
        while !condition(&self.plan()) {
            // The sender lives in `self`.
            let _ = changes.changed().await;
        }
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.0.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Plan) -> T) -> T {
        let changed = change(&mut self.plan());
        self.0.changed.send_modify(|n| *n += 1);
        changed
    }

    /// Counts a call, waits while it is held, and returns its fault.
    async fn enter(&self, method: Method) -> Option<Fault> {
        self.change(|plan| *plan.begun.entry(method).or_default() += 1);
        self.until(|plan| !plan.held.contains_key(&method)).await;
        let fault = self.next_fault(method);
        if fault == Some(Fault::Waits) {
            self.until(|plan| !plan.held.contains_key(&method)).await;
        }
        fault.filter(|fault| *fault != Fault::Waits)
    }

    fn next_fault(&self, method: Method) -> Option<Fault> {
        self.change(|plan| {
            *plan.entered.entry(method).or_default() += 1;
            let planned = plan.next.get_mut(&method).and_then(VecDeque::pop_front);
            let fault = planned.unwrap_or_else(|| plan.always.get(&method).copied());
            match fault {
                Some(Fault::Waits) => drop(plan.held.insert(method, true)),
                Some(Fault::AnswerWaits) => drop(plan.answers_held.insert(method, true)),
                _ => {}
            }
            fault.or_else(|| plan.answers_held.contains_key(&method).then_some(Fault::AnswerWaits))
        })
    }

    async fn call<T>(
        &self,
        method: Method,
        call: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, ProviderError> {
        let fault = self.enter(method).await;
        self.carry_out(method, fault, call).await
    }

    async fn carry_out<T>(
        &self,
        method: Method,
        fault: Option<Fault>,
        call: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, ProviderError> {
        if fault == Some(Fault::Permanent) {
            return Err(ProviderError::permanent("make the call", "injected, permanent"));
        }
        if fault == Some(Fault::Hangs) {
            std::future::pending::<()>().await;
        }
        let before = fault == Some(Fault::Before);
        if !before {
            let done = call.await;
            if fault == Some(Fault::AnswerWaits) {
                self.until(|plan| !plan.answers_held.contains_key(&method)).await;
            }
            if matches!(fault, None | Some(Fault::AnswerWaits)) {
                return done;
            }
        }
        if fault == Some(Fault::AnswerHangs) {
            std::future::pending::<()>().await;
        }
        let when = if before { "injected before the call" } else { "injected after the call" };
        Err(ProviderError::retryable("make the call", when))
    }
}

/// A provider whose calls have injected faults.
pub type FaultyProvider = Layered<FaultyLayer>;

/// Wraps another provider, and injects faults into its calls.
#[derive(Clone)]
pub struct FaultyLayer {
    inner: Arc<dyn Provider>,
    faults: Faults,
    has_admin: bool,
}

/// Makes a provider that injects faults into the calls of another one, and signals its writes.
pub fn faulty(inner: impl Provider) -> FaultyProvider {
    Layered(FaultyLayer { inner: Arc::new(signalling(inner)), faults: Faults::default(), has_admin: true })
}

/// Like [`faulty`], for a provider that seems to have no [`Admin`].
pub fn without_admin(inner: impl Provider) -> FaultyProvider {
    Layered(FaultyLayer { has_admin: false, ..faulty(inner).0 })
}

impl FaultyLayer {
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    fn inner_admin(&self) -> &dyn Admin {
        self.inner.admin().expect("the other provider has it, or this one would have none")
    }

    /// Fails now, and carries out the call after [`Faults::release_late`].
    fn later<T, F>(&self, call: impl FnOnce(Arc<dyn Provider>) -> F) -> Result<T, ProviderError>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (faults, call) = (self.faults.clone(), call(self.inner.clone()));
        tokio::spawn(async move {
            faults.until(|plan| plan.late_released).await;
            call.await;
        });
        Err(ProviderError::retryable("make the call", "injected, carried out late"))
    }
}

impl ProviderLayer for FaultyLayer {
    fn inner(&self) -> &dyn Provider {
        &*self.inner
    }

    fn join<'a>(&'a self, node: &'a NodeInfo) -> BoxFuture<'a, Result<Lease, ProviderError>> {
        Box::pin(self.faults.call(Method::Join, self.inner.join(node)))
    }

    fn renew<'a>(&'a self, lease: &'a Lease, report: &'a NodeReport) -> BoxFuture<'a, Result<Renewal, ProviderError>> {
        Box::pin(async move {
            let renewed = self.faults.call(Method::Renew, self.inner.renew(lease, report)).await?;
            match (renewed, self.faults.plan().valid_for) {
                (Renewal::Held { others, .. }, Some(valid_for)) => Ok(Renewal::Held { valid_for, others }),
                (renewed, _) => Ok(renewed),
            }
        })
    }

    fn leave<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), ProviderError>> {
        Box::pin(self.faults.call(Method::Leave, self.inner.leave(lease)))
    }

    fn acquire<'a>(&'a self, lease: &'a Lease, want: Want) -> BoxFuture<'a, Result<Acquired, ProviderError>> {
        Box::pin(async move { self.faults.call(Method::Acquire, self.inner.acquire(lease, want)).await })
    }

    fn commit<'a>(
        &'a self,
        lease: &'a Lease,
        mut entries: Vec<Arc<Commit>>,
    ) -> BoxFuture<'a, Result<Vec<Result<Committed, CommitError>>, ProviderError>> {
        Box::pin(async move {
            let written =
                |entry: &Arc<Commit>| if let Write::Turn(turn) = &entry.write { turn.events.len() } else { 0 };
            let written: usize = entries.iter().map(written).sum();
            self.faults.change(|plan| plan.events.written += written);
            let fault = self.faults.enter(Method::Commit).await;
            if fault == Some(Fault::Late) {
                let lease = *lease;
                return self.later(|inner| async move { drop(inner.commit(&lease, entries).await) });
            }
            if fault == Some(Fault::FirstEntry) && !entries.is_empty() {
                entries.remove(0);
                let mut answers = self.inner.commit(lease, entries).await?;
                answers.insert(0, Err(CommitError::Failed("injected".to_owned())));
                return Ok(answers);
            }
            if fault == Some(Fault::TurnsRefused) {
                let is_turn = |entry: &Arc<Commit>| matches!(entry.write, Write::Turn(_));
                let turns: Vec<_> = entries.iter().map(is_turn).collect();
                entries.retain(|entry| !is_turn(entry));
                let mut others = self.inner.commit(lease, entries).await?.into_iter();
                let refused = || Some(Err(CommitError::Conflict));
                return Ok(turns.iter().filter_map(|turn| if *turn { refused() } else { others.next() }).collect());
            }
            self.faults.carry_out(Method::Commit, fault, self.inner.commit(lease, entries)).await
        })
    }

    fn submit(
        &self,
        entries: Vec<Submission>,
    ) -> BoxFuture<'_, Result<Vec<Result<Submitted, SubmitError>>, ProviderError>> {
        Box::pin(async move {
            let terminates = entries.iter().any(|entry| matches!(entry, Submission::Terminate { .. }));
            if terminates && self.faults.plan().terminations_conflict {
                return Ok(vec![Err(SubmitError::Conflict)]);
            }
            let fault = self.faults.enter(Method::Submit).await;
            if fault == Some(Fault::Late) {
                return self.later(|inner| async move { drop(inner.submit(entries).await) });
            }
            self.faults.carry_out(Method::Submit, fault, self.inner.submit(entries)).await
        })
    }

    fn history<'a>(
        &'a self,
        execution: &'a ExecutionId,
        after: EventId,
    ) -> BoxFuture<'a, Result<HistoryPage, ProviderError>> {
        Box::pin(async move {
            let page = self.faults.call(Method::History, self.inner.history(execution, after)).await?;
            self.faults.change(|plan| plan.events.read += page.events.len());
            Ok(page)
        })
    }

    fn instance<'a>(
        &'a self,
        instance: &'a InstanceId,
    ) -> BoxFuture<'a, Result<Option<InstanceRecord>, ProviderError>> {
        Box::pin(self.faults.call(Method::Instance, self.inner.instance(instance)))
    }

    fn watch<'a>(&'a self, instance: &'a InstanceId) -> BoxFuture<'a, Result<Option<InstanceRecord>, ProviderError>> {
        Box::pin(self.faults.call(Method::Instance, self.inner.watch(instance)))
    }

    fn admin(&self) -> Option<&dyn Admin> {
        self.inner.admin().filter(|_| self.has_admin).map(|_| self as &dyn Admin)
    }
}

impl Admin for FaultyLayer {
    fn list<'a>(&'a self, filter: &'a Filter, page: &'a Page) -> BoxFuture<'a, Result<InstancePage, ProviderError>> {
        Box::pin(self.faults.call(Method::List, self.inner_admin().list(filter, page)))
    }

    fn activities<'a>(
        &'a self,
        instance: &'a InstanceId,
    ) -> BoxFuture<'a, Result<Option<InstanceActivities>, ProviderError>> {
        Box::pin(self.faults.call(Method::List, self.inner_admin().activities(instance)))
    }

    fn events<'a>(
        &'a self,
        execution: &'a ExecutionId,
        query: &'a HistoryQuery,
    ) -> BoxFuture<'a, Result<EventPreviews, ProviderError>> {
        Box::pin(self.faults.call(Method::List, self.inner_admin().events(execution, query)))
    }

    fn messages<'a>(
        &'a self,
        instance: &'a InstanceId,
    ) -> BoxFuture<'a, Result<Option<MessagePreviews>, ProviderError>> {
        Box::pin(self.faults.call(Method::List, self.inner_admin().messages(instance)))
    }

    fn rows<'a>(&'a self, instance: &'a InstanceId) -> BoxFuture<'a, Result<Option<InstanceRows>, ProviderError>> {
        Box::pin(self.faults.call(Method::List, self.inner_admin().rows(instance)))
    }

    fn delete<'a>(
        &'a self,
        instances: &'a [InstanceId],
        audit: &'a [AuditEntry],
    ) -> BoxFuture<'a, Result<Vec<Result<(), DeleteError>>, ProviderError>> {
        Box::pin(self.faults.call(Method::Delete, self.inner_admin().delete(instances, audit)))
    }

    fn prune<'a>(
        &'a self,
        filter: &'a Filter,
        before: Timestamp,
        batch: &'a Page,
    ) -> BoxFuture<'a, Result<Pruned, ProviderError>> {
        Box::pin(self.faults.call(Method::Prune, self.inner_admin().prune(filter, before, batch)))
    }

    fn groups<'a>(
        &'a self,
        of: Subject,
        filter: &'a Filter,
        by: &'a [Dimension],
        time_limit: Duration,
    ) -> BoxFuture<'a, Result<Groups, ProviderError>> {
        Box::pin(self.faults.call(Method::List, self.inner_admin().groups(of, filter, by, time_limit)))
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeRecord>, ProviderError>> {
        Box::pin(self.faults.call(Method::Nodes, self.inner_admin().nodes()))
    }

    fn departed_nodes(&self, limit: usize) -> BoxFuture<'_, Result<Vec<DepartedNode>, ProviderError>> {
        Box::pin(self.faults.call(Method::Nodes, self.inner_admin().departed_nodes(limit)))
    }

    fn builds(&self) -> BoxFuture<'_, Result<Vec<BuildRecord>, ProviderError>> {
        Box::pin(self.faults.call(Method::Nodes, self.inner_admin().builds()))
    }

    fn record<'a>(&'a self, entries: &'a [AuditEntry]) -> BoxFuture<'a, Result<(), ProviderError>> {
        Box::pin(self.faults.call(Method::Delete, self.inner_admin().record(entries)))
    }

    fn audit<'a>(&'a self, query: &'a AuditQuery, page: &'a Page) -> BoxFuture<'a, Result<AuditPage, ProviderError>> {
        Box::pin(self.faults.call(Method::List, self.inner_admin().audit(query, page)))
    }

    fn prune_audit(&self, before: Timestamp, limit: usize) -> BoxFuture<'_, Result<u64, ProviderError>> {
        Box::pin(self.faults.call(Method::Prune, self.inner_admin().prune_audit(before, limit)))
    }
}

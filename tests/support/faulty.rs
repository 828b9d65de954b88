//! A provider whose calls go wrong as a test says.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use duroxide::provider::*;
use duroxide::{EventId, ExecutionId, InstanceId, Timestamp};
use futures_util::future::BoxFuture;
use tokio::sync::watch;

/// What can be called.
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

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is not carried out, and fails in a way that may pass.
    Before,
    /// It is carried out, and its answer is lost.
    AnswerLost,
    /// It is not carried out, and will not be.
    Permanent,
    /// It is not carried out, and never answered.
    Hangs,
    /// It is carried out, and never answered.
    AnswerHangs,
    /// It waits before it is carried out, as later calls do, until they are released.
    Waits,
    /// It is carried out, and its answer waits, as those of later calls do, until answers are released.
    AnswerWaits,
    /// The first entry of the batch fails, the others are carried out.
    FirstEntry,
    /// The turns of a commit are not carried out, and refused as if the instance had gone on meanwhile.
    TurnsRefused,
    /// A commit or a submission fails, and is carried out all the same, once what is late is let in.
    Late,
}

/// What goes wrong with the calls of a [`FaultyProvider`]; and how many there were.
#[derive(Clone, Default)]
pub struct Faults(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// A std mutex: held for a moment, never across an await.
    plan: Mutex<Plan>,
    /// Changes whenever the plan does, and with every call.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Plan {
    next: HashMap<Method, VecDeque<Option<Fault>>>,
    always: HashMap<Method, Fault>,
    held: HashMap<Method, bool>,
    answers_held: HashMap<Method, bool>,
    overtaken: bool,
    let_in: bool,
    begun: HashMap<Method, usize>,
    entered: HashMap<Method, usize>,
    events: Events,
}

/// How many events have gone through a [`FaultyProvider`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Events {
    /// Handed in with turns.
    pub written: usize,
    /// Given out with histories.
    pub read: usize,
}

impl Faults {
    /// The next calls of a method go wrong, so many of them, after those that are planned already.
    pub fn next(&self, method: Method, fault: Fault, times: usize) {
        self.change(|plan| plan.next.entry(method).or_default().extend(std::iter::repeat_n(Some(fault), times)));
    }

    /// The next calls of a method go well.
    pub fn pass(&self, method: Method, times: usize) {
        self.change(|plan| plan.next.entry(method).or_default().extend(std::iter::repeat_n(None, times)));
    }

    /// All calls of a method for which nothing else is planned go wrong.
    pub fn always(&self, method: Method, fault: Fault) {
        self.change(|plan| plan.always.insert(method, fault));
    }

    /// Calls wait before they are carried out, until they are released.
    pub fn hold(&self, method: Method) {
        self.change(|plan| plan.held.insert(method, true));
    }

    /// Calls that wait go on.
    pub fn release(&self, method: Method) {
        self.change(|plan| plan.held.remove(&method));
    }

    /// Calls that are met from now on are carried out, and their answers wait until they are released.
    pub fn hold_answers(&self, method: Method) {
        self.change(|plan| plan.answers_held.insert(method, true));
    }

    /// Answers that wait are given.
    pub fn release_answers(&self, method: Method) {
        self.change(|plan| plan.answers_held.remove(&method));
    }

    /// What is late is carried out, now and from now on.
    pub fn let_in(&self) {
        self.change(|plan| plan.let_in = true);
    }

    /// Terminations come too late: whatever a client has read of an instance, it has gone on meanwhile.
    pub fn overtake(&self) {
        self.change(|plan| plan.overtaken = true);
    }

    /// Of the calls of a method that are met from now on, this one goes wrong, from 1. Waits until it is met.
    pub fn nth(&self, method: Method, call: usize, fault: Fault) -> impl Future<Output = ()> {
        let met = self.change(|plan| {
            let next = plan.next.entry(method).or_default();
            next.extend(std::iter::repeat_n(None, call - 1).chain([Some(fault)]));
            plan.entered.get(&method).copied().unwrap_or(0) + call
        });
        self.until(move |plan| plan.entered.get(&method).copied().unwrap_or(0) >= met)
    }

    /// Everything goes well from now on.
    pub fn heal(&self) {
        self.change(|plan| {
            plan.next.clear();
            plan.always.clear();
            plan.held.clear();
            plan.answers_held.clear();
            plan.overtaken = false;
        });
    }

    /// How many calls of a method have begun.
    pub fn begun(&self, method: Method) -> usize {
        self.plan().begun.get(&method).copied().unwrap_or(0)
    }

    /// How many events were written and read.
    pub fn events(&self) -> Events {
        self.plan().events
    }

    /// Waits until so many calls of a method have begun, from the beginning.
    pub async fn until_begun(&self, method: Method, calls: usize) {
        self.until(|plan| plan.begun.get(&method).copied().unwrap_or(0) >= calls).await;
    }

    /// Waits until so many more calls of a method have begun.
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

    /// Counts a call, waits while it is held, and tells what goes wrong with it.
    async fn enter(&self, method: Method) -> Option<Fault> {
        self.change(|plan| *plan.begun.entry(method).or_default() += 1);
        self.until(|plan| !plan.held.contains_key(&method)).await;
        let fault = self.meet(method);
        if fault == Some(Fault::Waits) {
            self.until(|plan| !plan.held.contains_key(&method)).await;
        }
        fault.filter(|fault| *fault != Fault::Waits)
    }

    fn meet(&self, method: Method) -> Option<Fault> {
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
            return Err(ProviderError::permanent("do as asked", "injected for good"));
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
        Err(ProviderError::retryable("do as asked", when))
    }
}

/// Another provider, with faults.
#[derive(Clone)]
pub struct FaultyProvider {
    inner: Arc<dyn Provider>,
    faults: Faults,
    has_admin: bool,
}

impl FaultyProvider {
    pub fn new(inner: impl Provider) -> Self {
        Self { inner: Arc::new(inner), faults: Faults::default(), has_admin: true }
    }

    /// Hides that the other provider lists and removes.
    pub fn without_admin(self) -> Self {
        Self { has_admin: false, ..self }
    }

    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    fn inner_admin(&self) -> &dyn Admin {
        self.inner.admin().expect("the other provider has it, or this one would have none")
    }

    /// Carries something out once it is let in, and fails now.
    fn later<T, F>(&self, call: impl FnOnce(Arc<dyn Provider>) -> F) -> Result<T, ProviderError>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (faults, call) = (self.faults.clone(), call(self.inner.clone()));
        tokio::spawn(async move {
            faults.until(|plan| plan.let_in).await;
            call.await;
        });
        Err(ProviderError::retryable("do as asked", "injected; it comes late"))
    }
}

impl Provider for FaultyProvider {
    fn join<'a>(&'a self, node: &'a NodeInfo) -> BoxFuture<'a, Result<Lease, ProviderError>> {
        Box::pin(self.faults.call(Method::Join, self.inner.join(node)))
    }

    fn renew<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<Renewal, ProviderError>> {
        Box::pin(self.faults.call(Method::Renew, self.inner.renew(lease)))
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
            if terminates && self.faults.plan().overtaken {
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

    fn admin(&self) -> Option<&dyn Admin> {
        self.inner.admin().filter(|_| self.has_admin).map(|_| self as &dyn Admin)
    }

    fn wakeups(&self) -> &Wakeups {
        self.inner.wakeups()
    }
}

impl Admin for FaultyProvider {
    fn list<'a>(&'a self, filter: &'a Filter, page: &'a Page) -> BoxFuture<'a, Result<InstancePage, ProviderError>> {
        Box::pin(self.faults.call(Method::List, self.inner_admin().list(filter, page)))
    }

    fn delete<'a>(
        &'a self,
        instances: &'a [InstanceId],
    ) -> BoxFuture<'a, Result<Vec<Result<(), DeleteError>>, ProviderError>> {
        Box::pin(self.faults.call(Method::Delete, self.inner_admin().delete(instances)))
    }

    fn prune<'a>(
        &'a self,
        filter: &'a Filter,
        before: Timestamp,
        batch: &'a Page,
    ) -> BoxFuture<'a, Result<Pruned, ProviderError>> {
        Box::pin(self.faults.call(Method::Prune, self.inner_admin().prune(filter, before, batch)))
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeRecord>, ProviderError>> {
        Box::pin(self.faults.call(Method::Nodes, self.inner_admin().nodes()))
    }
}

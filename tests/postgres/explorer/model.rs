//! The database, and the programs that run in it. Each step of a program is a statement, or the end of a transaction.

use std::collections::{BTreeMap, BTreeSet};

/// A part of the protocol that can be taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Mend {
    /// A transaction that creates ownership holds a shared lock on the epoch.
    EpochLock,
    /// A take-over reads the list of activities after it has released the instances.
    ActivitiesAfterInstances,
    /// A take-over looks at the lease again when it marks a node as dead.
    LookAgain,
    /// The number of a message is given under the lock of its instance, and a gap is noticed.
    NumbersUnderTheLock,
    /// A claim reads the messages by a later statement than the one that locks the instance.
    ReadAfterTheLock,
    /// A turn checks the owner of its instance in the statement that writes.
    Fence,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Program {
    /// The lease of the first node passes, and then the time of grace.
    Time,
    /// The first node renews.
    Renew,
    /// The second node takes over the first one, if it is overdue.
    TakeOver,
    /// The first node creates an instance that it owns.
    Birth,
    /// The first node commits a turn of the instance that it owns, which schedules an activity for itself.
    Turn,
    /// A client sends a message to the instance that the first node owns.
    Send,
    /// The first node asks for its messages.
    Ask,
    Claim(Claim),
}

/// The node that claims the instance without an owner, or the one that was released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Claim {
    First,
    Second,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Owner {
    First,
    Second,
}

/// The instance that the first node owns at the beginning, and the one that it creates.
const OLD: u8 = 0;
const NEW: u8 = 1;

/// A row of `live`, with the messages of the instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Instance {
    owner: Option<Owner>,
    arrivals: u8,
    messages: BTreeSet<u8>,
    /// Messages that the owner is to be told of.
    mail: bool,
    last_event: u8,
}

/// The row of the first node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Node {
    overdue: bool,
    suspected: bool,
    grace_is_over: bool,
    dead: bool,
    freed: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Process {
    /// The next step. `None`: the program has ended.
    step: Option<u8>,
    /// Read by an earlier statement.
    instances: Vec<u8>,
    activities: Vec<u8>,
    messages: BTreeSet<u8>,
    number: u8,
    owned: bool,
}

/// A state of the database: the committed rows, and the locks by process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    without: Option<Mend>,
    programs: Vec<Program>,
    processes: Vec<Process>,
    node: Node,
    node_lock: Option<usize>,
    epoch_shared: BTreeSet<usize>,
    epoch_exclusive: Option<usize>,
    instances: BTreeMap<u8, Instance>,
    row_locks: BTreeMap<u8, usize>,
    /// The instances with an activity that the first node owns.
    activities: BTreeSet<u8>,
    sequence: u8,
    /// The messages that each node has received.
    heard: BTreeMap<Owner, BTreeSet<u8>>,
    /// By a store with one sequence for all messages: the highest number that the first node has seen.
    cursor: u8,
    faults: BTreeSet<&'static str>,
}

impl State {
    pub(super) fn new(programs: &[Program], without: Option<Mend>) -> Self {
        let claims = programs.contains(&Program::Claim(Claim::First)) && !programs.contains(&Program::TakeOver);
        let owner = if claims { None } else { Some(Owner::First) };
        Self {
            without,
            programs: programs.to_vec(),
            processes: programs.iter().map(|_| Process { step: Some(0), ..Process::default() }).collect(),
            node: Node::default(),
            node_lock: None,
            epoch_shared: BTreeSet::new(),
            epoch_exclusive: None,
            instances: [(OLD, Instance { owner, ..Instance::default() })].into(),
            row_locks: BTreeMap::new(),
            activities: BTreeSet::new(),
            sequence: 0,
            heard: BTreeMap::new(),
            cursor: 0,
            faults: BTreeSet::new(),
        }
    }

    fn has(&self, mend: Mend) -> bool {
        self.without != Some(mend)
    }

    /// Returns the state after the next step of a process. `None`: it has ended, or waits for a lock.
    pub(super) fn step(&self, process: usize) -> Option<Self> {
        let step = self.processes[process].step?;
        let mut next = self.clone();
        // A step that does not say otherwise is followed by the next one.
        next.processes[process].step = Some(step + 1);
        let done = match self.programs[process] {
            Program::Time => next.time(process, step),
            Program::Renew => next.renew(process),
            Program::TakeOver => next.take_over(process, step),
            Program::Birth => next.birth(process, step),
            Program::Turn => next.turn(process, step),
            Program::Send => next.send(process, step),
            Program::Ask => next.ask(process, step),
            Program::Claim(Claim::First) => next.claim(process, step, Owner::First),
            Program::Claim(Claim::Second) => next.claim(process, step, Owner::Second),
        };
        done.then_some(next)
    }

    /// Ends a program, and its transaction.
    fn end(&mut self, process: usize) -> bool {
        self.processes[process].step = None;
        self.release(process)
    }

    /// Releases the locks of a transaction.
    fn release(&mut self, process: usize) -> bool {
        self.row_locks.retain(|_, holder| *holder != process);
        self.epoch_shared.remove(&process);
        self.epoch_exclusive = self.epoch_exclusive.filter(|holder| *holder != process);
        self.node_lock = self.node_lock.filter(|holder| *holder != process);
        true
    }

    /// Locks a row, unless another process has locked it.
    fn lock(&mut self, instance: u8, process: usize) -> bool {
        *self.row_locks.entry(instance).or_insert(process) == process
    }

    fn lock_epoch_shared(&mut self, process: usize) -> bool {
        if !self.has(Mend::EpochLock) {
            return true;
        }
        self.epoch_exclusive.is_none() && self.epoch_shared.insert(process)
    }

    fn time(&mut self, process: usize, step: u8) -> bool {
        match step {
            0 => self.node.overdue = true,
            _ => {
                self.node.grace_is_over = self.node.suspected;
                self.processes[process].step = None;
            }
        }
        true
    }

    fn renew(&mut self, process: usize) -> bool {
        if self.node_lock.is_some() {
            return false;
        }
        if !self.node.dead {
            self.node = Node::default();
        }
        self.end(process)
    }

    fn take_over(&mut self, process: usize, step: u8) -> bool {
        let is_expired = self.node.overdue && self.node.suspected && self.node.grace_is_over;
        match step {
            0 => {
                if self.node_lock.is_some() {
                    return false;
                }
                self.node.suspected |= self.node.overdue;
                true
            }
            // The look at the members, in a statement of its own.
            1 if is_expired || self.node.dead => true,
            1 => self.end(process),
            2 => {
                // The lock on the epoch, exclusively.
                let is_free = self.epoch_exclusive.is_none() && self.epoch_shared.is_empty();
                self.epoch_exclusive = self.epoch_exclusive.or(is_free.then_some(process));
                is_free
            }
            3 => {
                // The node's row is locked from here to the commit.
                self.node_lock = Some(process);
                self.processes[process].owned = !self.node.dead && (is_expired || !self.has(Mend::LookAgain));
                true
            }
            4 => {
                if self.processes[process].owned {
                    if !self.node.overdue {
                        self.faults.insert("a node that has renewed is dead");
                    }
                    self.node.dead = true;
                }
                self.release(process);
                if self.node.dead { true } else { self.end(process) }
            }
            _ => self.sweep(process, step),
        }
    }

    /// Releases the items of the dead node.
    fn sweep(&mut self, process: usize, step: u8) -> bool {
        let owned = |state: &Self| -> Vec<u8> {
            let owned = state.instances.iter().filter(|(_, instance)| instance.owner == Some(Owner::First));
            owned.map(|(id, _)| *id).collect()
        };
        match step {
            5 => {
                if !self.has(Mend::ActivitiesAfterInstances) {
                    self.processes[process].activities = self.activities.iter().copied().collect();
                }
                self.processes[process].instances = owned(self);
                true
            }
            6 => {
                let Some(instance) = self.processes[process].instances.first().copied() else { return true };
                // The next step commits.
                self.lock(instance, process)
            }
            7 => {
                if let Some(id) = self.processes[process].instances.first().copied() {
                    self.processes[process].instances.remove(0);
                    if let Some(instance) = self.instances.get_mut(&id) {
                        instance.owner = instance.owner.filter(|owner| *owner != Owner::First);
                        instance.mail &= instance.owner.is_some();
                    }
                    self.release(process);
                    self.processes[process].step = Some(6);
                }
                true
            }
            8 => {
                if self.has(Mend::ActivitiesAfterInstances) {
                    self.processes[process].activities = self.activities.iter().copied().collect();
                }
                true
            }
            9 => {
                let released = std::mem::take(&mut self.processes[process].activities);
                self.activities.retain(|activity| !released.contains(activity));
                true
            }
            _ => {
                self.node.freed = true;
                self.end(process)
            }
        }
    }

    fn birth(&mut self, process: usize, step: u8) -> bool {
        match step {
            0 => self.lock_epoch_shared(process),
            1 => {
                self.processes[process].owned = !self.node.dead;
                true
            }
            _ => {
                let owner = self.processes[process].owned.then_some(Owner::First);
                self.instances.insert(NEW, Instance { owner, ..Instance::default() });
                self.end(process)
            }
        }
    }

    fn turn(&mut self, process: usize, step: u8) -> bool {
        let owner = self.instances[&OLD].owner;
        match step {
            0 if !self.lock(OLD, process) => false,
            0 if owner != Some(Owner::First) && self.has(Mend::Fence) => self.end(process),
            0 => true,
            _ => {
                if owner != Some(Owner::First) {
                    self.faults.insert("two nodes have advanced an instance");
                }
                self.activities.insert(OLD);
                self.instances.entry(OLD).and_modify(|instance| instance.last_event += 1);
                self.end(process)
            }
        }
    }

    fn send(&mut self, process: usize, step: u8) -> bool {
        let under_lock = self.has(Mend::NumbersUnderTheLock);
        match step {
            0 if under_lock => self.lock(OLD, process),
            0 => {
                self.sequence += 1;
                self.processes[process].number = self.sequence;
                true
            }
            1 if under_lock => {
                self.processes[process].number = self.instances[&OLD].arrivals + 1;
                true
            }
            1 => true,
            _ => {
                let number = self.processes[process].number;
                self.instances.entry(OLD).and_modify(|instance| {
                    instance.arrivals = instance.arrivals.max(number);
                    instance.messages.insert(number);
                    instance.mail = instance.owner.is_some();
                });
                self.end(process)
            }
        }
    }

    /// Receives the messages of one snapshot, as far as there is no gap.
    fn hear(&mut self, owner: Owner) {
        let instance = &self.instances[&OLD];
        if instance.owner != Some(owner) {
            return;
        }
        let heard = self.heard.entry(owner).or_default();
        if self.without == Some(Mend::NumbersUnderTheLock) {
            let new: Vec<u8> = instance.messages.iter().copied().filter(|number| *number > self.cursor).collect();
            self.cursor = new.iter().copied().max().unwrap_or(self.cursor);
            heard.extend(new);
        } else {
            let first = heard.last().copied().unwrap_or_default() + 1;
            heard.extend((first..).take_while(|number| instance.messages.contains(number)));
        }
    }

    fn ask(&mut self, process: usize, step: u8) -> bool {
        self.hear(Owner::First);
        if step == 2 { self.end(process) } else { true }
    }

    fn claim(&mut self, process: usize, step: u8, owner: Owner) -> bool {
        match step {
            // The epoch of the second node is not that of the model.
            0 if owner == Owner::First => self.lock_epoch_shared(process),
            0 => true,
            1 => {
                let is_free = self.instances[&OLD].owner.is_none() && !(owner == Owner::First && self.node.dead);
                self.processes[process].messages = self.instances[&OLD].messages.clone();
                if is_free { true } else { self.end(process) }
            }
            // It skips a row that is locked.
            2 if !self.lock(OLD, process) => self.end(process),
            2 if self.instances[&OLD].owner.is_some() => self.end(process),
            2 => true,
            3 => {
                if self.has(Mend::ReadAfterTheLock) {
                    self.processes[process].messages = self.instances[&OLD].messages.clone();
                }
                true
            }
            _ => {
                let read = std::mem::take(&mut self.processes[process].messages);
                if self.instances[&OLD].owner.is_some() {
                    self.faults.insert("two nodes own an instance");
                }
                self.heard.insert(owner, read);
                self.instances.entry(OLD).and_modify(|instance| {
                    instance.owner = Some(owner);
                    instance.mail = false;
                });
                self.end(process)
            }
        }
    }

    /// Returns the faults of a state in which no process continues.
    pub(super) fn findings(&self) -> Vec<String> {
        let mut findings: Vec<String> = self.faults.iter().map(|fault| (*fault).to_owned()).collect();
        if self.processes.iter().any(|process| process.step.is_some()) {
            findings.push("the processes wait for each other".to_owned());
        }
        if self.node.dead && self.node.freed {
            if self.instances.values().any(|instance| instance.owner == Some(Owner::First)) {
                findings.push("an instance is orphaned".to_owned());
            }
            if !self.activities.is_empty() {
                findings.push("an activity is orphaned".to_owned());
            }
        }
        findings.extend(self.lost());
        findings
    }

    /// Returns the messages that the owner has not received, and of which no mail will tell it.
    fn lost(&self) -> Option<String> {
        let instance = &self.instances[&OLD];
        let owner = instance.owner?;
        let mut last = self.clone();
        if instance.mail {
            last.hear(owner);
        }
        let heard = last.heard.remove(&owner).unwrap_or_default();
        let lost: Vec<&u8> = instance.messages.difference(&heard).collect();
        (!lost.is_empty()).then(|| format!("message {lost:?} is lost"))
    }
}

//! Starts an instance.

use std::future::IntoFuture;
use std::marker::PhantomData;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tracing::Instrument;

use super::audit::Act;
use super::measure::counted;
use super::{Client, ClientError, Handle};
use crate::clock::Timestamp;
use crate::error::ErrorCode;
use crate::history::{Started, TextMap};
use crate::id::{InstanceId, MAX_NAME_LEN, check_text, parse_version};
use crate::node::NodeHandle;
use crate::payload::{Payload, PayloadError};
use crate::provider::{IfExists, NewInstance, StartRequest, Submission};
use crate::telemetry::RequestOperation;
use crate::telemetry::{self, spans};

/// The start of an instance: set its options, then `.await` it. Once the call has returned `Ok`, the instance is stored
/// and survives crashes.
///
/// If the client belongs to a runtime that has the code, the call returns when the first turn is stored: the
/// orchestration has run up to its first wait. If the id is already taken, the decisions of that turn are discarded.
/// They have had no effect, except for log lines.
///
/// # Errors
/// [`ClientError`]: the id is taken or invalid, a value is refused, the storage fails.
///
/// # Cancel safety
/// If the future is dropped after its first poll, the instance may or may not be created. To be sure, start it again
/// with [`IfExists::Attach`].
#[must_use = "the instance is started when this is awaited"]
pub struct StartCall<O> {
    pub(super) start: Start,
    orchestration: PhantomData<fn() -> O>,
}

/// A start without the type of its orchestration, so that its code is compiled once and not for every orchestration.
pub(super) struct Start {
    client: Client,
    name: String,
    id: String,
    input: Result<Payload, PayloadError>,
    version: Option<String>,
    labels: TextMap,
    headers: TextMap,
    if_exists: IfExists,
    begin: Begin,
}

enum Begin {
    Now,
    After(Duration),
    At(Timestamp),
}

impl<O> StartCall<O> {
    pub(crate) fn new(client: &Client, name: &str, id: &str, input: Result<Payload, PayloadError>) -> Self {
        let start = Start {
            client: client.clone(),
            name: name.to_owned(),
            id: id.to_owned(),
            input,
            version: None,
            labels: TextMap::new(),
            headers: TextMap::new(),
            if_exists: IfExists::default(),
            begin: Begin::Now,
        };
        Self { start, orchestration: PhantomData }
    }

    /// Sets the version, as semver. Default: the latest version that is registered on the node of the first turn.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.start.version = Some(version.into());
        self
    }

    /// Adds a label, by which [`Client::list`] finds the instance: up to 64 labels, with 128 bytes of name and 1,024 of
    /// value. A later value of the same key replaces an earlier one.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.start.labels.insert(key.into(), value.into());
        self
    }

    /// Adds a header, such as a trace context: up to 64 headers, with 128 bytes of name and 1,024 of value. The
    /// orchestration, its activities and its children read it with `ctx.headers()`. A later value of the same name
    /// replaces an earlier one.
    pub fn header(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.start.headers.insert(key.into(), value.into());
        self
    }

    /// Sets the policy for an id that is taken. Default: an error.
    pub fn if_exists(mut self, policy: IfExists) -> Self {
        self.start.if_exists = policy;
        self
    }

    /// Delays the first turn. Until then the instance exists and accepts events; a request to cancel ends it at once,
    /// without running its code.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.start.begin = Begin::After(delay);
        self
    }

    /// Delays the first turn until a time: a [`Timestamp`] or a `SystemTime`. Until then the instance exists and
    /// accepts events.
    pub fn at(mut self, time: impl Into<Timestamp>) -> Self {
        self.start.begin = Begin::At(time.into());
        self
    }
}

/// A start whose values were checked.
pub(super) struct CheckedStart {
    pub(super) client: Client,
    pub(super) new: NewInstance,
    pub(super) if_exists: IfExists,
    pub(super) now: Timestamp,
}

impl Start {
    pub(super) fn check(self) -> Result<CheckedStart, ClientError> {
        let Self { client, name, id, input, version, labels, mut headers, if_exists, begin } = self;
        telemetry::inject(&mut headers);
        let instance = InstanceId::new(&id)?;
        client.check_running(Some(&instance))?;
        check_text("orchestration name", &name, MAX_NAME_LEN)?;
        check_texts(&LABELS, &labels)?;
        check_texts(&HEADERS, &headers)?;
        let version = version.map(|text| parse_version(&text)).transpose()?;
        let input = input.map_err(|e| ClientError::payload(&instance, "the input", &e))?;
        client.check_size(&instance, "the input", &input)?;
        let now = client.clock.now();
        let seed = crate::random::bits();
        let started = Started { name, version, seed, parent: None, headers, labels, request: None };
        let mut new = NewInstance::started(instance, started, input, false);
        new.start.visible_at = match begin {
            Begin::Now => None,
            Begin::After(delay) => Some(now + delay),
            Begin::At(time) => Some(time),
        };
        Ok(CheckedStart { client, new, if_exists, now })
    }

    /// Boxed, so that it is compiled once and not for every orchestration.
    fn run(self) -> BoxFuture<'static, Result<(Client, InstanceId), ClientError>> {
        let span = spans::start(&self.id, &self.name);
        let mut checked = match span.in_scope(|| self.check()) {
            Ok(checked) => checked,
            Err(error) => return Box::pin(std::future::ready(Err(error))),
        };
        let run = async move {
            checked.new.eager = checked.is_accepted_here();
            let _hold = checked.client.clock.hold();
            if checked.start_here().await {
                return Ok((checked.client, checked.new.instance));
            }
            // Boxed on its own, because its future is large, and a start on the local node does not need it.
            Box::pin(checked.submit()).await
        };
        Box::pin(run.instrument(span))
    }
}

impl CheckedStart {
    /// Returns true if the node of this process will own the instance.
    fn is_accepted_here(&self) -> bool {
        let Self { client, new, .. } = self;
        client.local.as_ref().is_some_and(|local| local.accepts_start(&new.name, new.version.as_ref()))
    }

    /// Lets the node of this process create the instance with the commit of its first turn. Returns true if it has.
    async fn start_here(&self) -> bool {
        let Self { client, new, if_exists, .. } = self;
        // Only a submission can write an entry of the audit as well. With `Attach` or `Replace` a taken id is expected, so
        // the first turn is not run just to discover it.
        let is_plain = client.note.is_none() && *if_exists == IfExists::Error && new.start.visible_at.is_none();
        match client.local.as_ref().filter(|_| new.eager && is_plain) {
            Some(owner) => owner.start(Box::new(new.clone())).await,
            None => false,
        }
    }

    /// Writes the start to the storage, for this node or for any other.
    async fn submit(self) -> Result<(Client, InstanceId), ClientError> {
        let Self { client, new, if_exists, now } = self;
        let (instance, name) = (new.instance.clone(), new.name.clone());
        let local = client.local.as_ref();
        let request =
            StartRequest { new: new.clone(), if_exists, lease: local.map(NodeHandle::lease), time: now, resent: false };
        let act = Act { detail: Some(&name), ..Act::named("start") };
        let submission = client.audited(act, Submission::Start(request));
        let submitted = client.submit_for(local.filter(|_| new.eager), &instance, submission).await?;
        if !submitted.written {
            client.check_attached(&instance, &name).await?;
        }
        if let Some(local) = local.filter(|_| submitted.written) {
            local.create(submitted, new);
        }
        Ok((client, instance))
    }
}

impl Client {
    /// Refuses to attach to an instance of another orchestration, whose values have other types.
    pub(super) async fn check_attached(&self, instance: &InstanceId, name: &str) -> Result<(), ClientError> {
        match self.ask(|| self.provider.instance(instance)).await? {
            Some(record) if record.name != name => {
                let reason = format!("the id is taken by an instance of {:?}, not of {name:?}", record.name);
                Err(ClientError::refused(instance, ErrorCode::InstanceExists, reason))
            }
            _ => Ok(()),
        }
    }
}

/// The words for labels or headers in an error.
pub(super) struct Words {
    all: &'static str,
    name: &'static str,
    value: &'static str,
}

pub(super) const LABELS: Words = Words { all: "labels", name: "label name", value: "label value" };
pub(super) const HEADERS: Words = Words { all: "headers", name: "header name", value: "header value" };

/// Checks the number of labels or headers, their names and their values.
pub(super) fn check_texts(words: &Words, texts: &TextMap) -> Result<(), ClientError> {
    const MAX_NUMBER: usize = 64;
    const MAX_VALUE: usize = 1024;
    if texts.len() > MAX_NUMBER {
        let problem = format!("there are {} {}; the limit is {MAX_NUMBER}", texts.len(), words.all);
        return Err(ClientError::invalid(ErrorCode::InvalidId, problem));
    }
    for (name, value) in texts {
        check_text(words.name, name, MAX_NAME_LEN)?;
        if !value.is_empty() {
            check_text(words.value, value, MAX_VALUE)?;
        }
    }
    Ok(())
}

impl<O: 'static> IntoFuture for StartCall<O> {
    type Output = Result<Handle<O>, ClientError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let (client, instance) = counted(RequestOperation::Start, self.start.run().await)?;
            Ok(Handle::of(&client, instance))
        })
    }
}

//! Starts an instance, or raises an event, within a transaction of the user.

use std::fmt;

use super::audit::Act;
use super::start::CheckedStart;
use super::{Client, ClientError, Handle, RaiseCall, StartCall};
use crate::error::ErrorCode;
use crate::id::InstanceId;
use crate::message::Message;
use crate::provider::{
    IfExists, MessageRow, SendRequest, StartRequest, Submission, Submitted, Transactional, UserTransaction, WithinError,
};

impl<O> StartCall<O> {
    /// Starts the instance within a transaction of the program: it exists if and only if that transaction commits. The
    /// transaction must be one of the database in which the client keeps its state, of a connection of the program's own.
    ///
    /// Nothing runs before the commit. The first turn then follows within milliseconds if
    /// [`committed`](StartedWithin::committed) is called after it, otherwise within seconds at most; the provider decides
    /// how a commit without that call is noticed. Another start of the same id waits until the transaction has ended.
    ///
    /// The page [Transactions] has complete examples.
    ///
    /// [Transactions]: https://github.com/duroxide/duroxide/blob/main/docs/transaction-example.md
    ///
    /// ```
    /// use duroxide::prelude::*;
    /// # #[orchestration]
    /// # async fn checkout(_: OrchestrationContext, order: String) -> duroxide::Result<String> {
    /// #     Ok(order)
    /// # }
    ///
    /// # #[cfg(feature = "sqlite")]
    /// async fn place_order(client: &Client, database: &mut rusqlite::Connection) -> duroxide::Result<()> {
    ///     let mut tx = database.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    ///     tx.execute("INSERT INTO orders (id) VALUES (17)", [])?;
    ///     let started = checkout::start(client, "order-17", "books".to_owned()).within(&mut tx).await?;
    ///     tx.commit()?;
    ///     let handle = started.committed();
    ///     println!("{}", handle.result().await?);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// [`ClientError`]. If the id is taken ([`ClientError::is_exists`]) or a value is refused, the transaction can be used
    /// further. After a failure of the storage it must be rolled back; if the error is retryable, the whole transaction may
    /// be repeated. [`IfExists::Replace`] is refused, and so is a transaction of another database (`DUR0047`).
    ///
    /// # Cancel safety
    /// If the future is dropped, roll the transaction back.
    pub async fn within<D, T: UserTransaction<D>>(self, tx: T) -> Result<StartedWithin<O>, ClientError> {
        let CheckedStart { client, new, if_exists, now } = self.start.check()?;
        let (instance, name) = (new.instance.clone(), new.name.clone());
        if if_exists == IfExists::Replace {
            let reason =
                "`IfExists::Replace` removes an instance, which is not possible within a transaction".to_owned();
            return Err(ClientError::refused(&instance, ErrorCode::TransactionUnsuitable, reason));
        }
        let request = StartRequest { new, if_exists, lease: None, time: now, resent: false };
        let act = Act { detail: Some(&name), ..Act::named("start") };
        let submission = client.audited(act, Submission::Start(request));
        let submitted = client.submit_within(&instance, tx, &submission).await?;
        if !submitted.written {
            client.check_attached(&instance, &name).await?;
        }
        Ok(StartedWithin { handle: Handle::of(&client, instance), client })
    }
}

impl RaiseCall {
    /// Raises the event within a transaction of the program: it is delivered if and only if that transaction commits. The
    /// transaction must be one of the database in which the client keeps its state, of a connection of the program's own.
    ///
    /// The events of one transaction are delivered in their order. The instance may have been started in the same
    /// transaction. If it finishes before the transaction commits, the event has no effect.
    ///
    /// # Errors
    /// As [`StartCall::within`]; and the instance does not exist or has finished.
    ///
    /// # Cancel safety
    /// If the future is dropped, roll the transaction back.
    pub async fn within<D, T: UserTransaction<D>>(self, tx: T) -> Result<Raised, ClientError> {
        let (client, instance, input, payload) = self.check()?;
        client.check_running(Some(&instance))?;
        let message = Message::new(input, payload);
        let (act, message) = (Act::of(&message.input), MessageRow::from(&message));
        let time = client.clock.now();
        let request = SendRequest { to: instance.clone(), message, lease: None, time, resent: false };
        let submission = client.audited(act, Submission::Send(request));
        client.submit_within(&instance, tx, &submission).await?;
        Ok(Raised { client })
    }
}

impl Client {
    async fn submit_within<D, T: UserTransaction<D>>(
        &self,
        instance: &InstanceId,
        tx: T,
        submission: &Submission,
    ) -> Result<Submitted, ClientError> {
        let failed = |error| ClientError::within(instance, error);
        let Some(provider) = self.provider.transactional() else {
            let reason = "the provider of this client does not write within transactions of the program";
            return Err(failed(WithinError::Unsuitable(reason.to_owned())));
        };
        tx.submit(provider, submission).await.map_err(failed)
    }

    fn committed(&self) {
        self.provider.transactional().iter().for_each(|provider| Transactional::committed(*provider));
    }
}

/// An instance that was started within a transaction, which has not committed yet.
#[must_use = "call `committed` once the transaction is committed, so that the instance runs at once"]
pub struct StartedWithin<O> {
    handle: Handle<O>,
    client: Client,
}

impl<O> StartedWithin<O> {
    /// Returns the handle. Before the commit the instance exists for the transaction alone.
    pub fn handle(&self) -> &Handle<O> {
        &self.handle
    }

    /// Signals to the nodes that the transaction is committed, and returns the handle. If the transaction was rolled back,
    /// the signal has no effect.
    pub fn committed(self) -> Handle<O> {
        self.client.committed();
        self.handle
    }
}

impl<O> fmt::Debug for StartedWithin<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartedWithin").field("instance", &self.handle.id().ok()).finish_non_exhaustive()
    }
}

/// An event that was raised within a transaction, which has not committed yet.
#[must_use = "call `committed` once the transaction is committed, so that the event is delivered at once"]
pub struct Raised {
    client: Client,
}

impl Raised {
    /// Signals to the nodes that the transaction is committed. If it was rolled back, the signal has no effect.
    pub fn committed(self) {
        self.client.committed();
    }
}

impl fmt::Debug for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Raised").finish_non_exhaustive()
    }
}

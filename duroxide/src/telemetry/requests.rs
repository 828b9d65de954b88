//! The requests of clients, as the metric `duroxide_client_requests_total` names them.

macro_rules! operations {
    ($($operation:ident $name:literal)*) => {
        /// A request of a client.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum RequestOperation {
            $($operation,)*
        }

        impl RequestOperation {
            /// Returns the value of the label `operation`.
            pub(crate) fn as_str(self) -> &'static str {
                match self {
                    $(Self::$operation => $name,)*
                }
            }
        }

        /// The values of the label `operation` of [`REQUESTS`](super::names::REQUESTS).
        pub const REQUEST_OPERATIONS: &[&str] = &[$($name),*];
    };
}

operations! {
    Start "start"
    Raise "raise"
    Cancel "cancel"
    Terminate "terminate"
    Suspend "suspend"
    Wake "wake"
    Resume "resume"
    DropMessage "drop_message"
    Delete "delete"
    Erase "erase"
    Reset "reset"
    Fork "fork"
    Import "import"
}

//! The pages of the book and the README, so that their code is compiled, and run, with the doctests.
//!
//! A block that starts a runtime which discovers what is annotated is marked `standalone_crate`: the others are compiled
//! into one program, where names may stand twice.

macro_rules! pages {
    ($($(#[$attribute:meta])* $name:ident $path:literal)*) => {
        $($(#[$attribute])* #[doc = include_str!(concat!("../../", $path))] struct $name;)*
    };
}

pages! {
    Readme "README.md"
    Index "docs/README.md"
    QuickStart "docs/QUICK_START.md"
    #[cfg(feature = "testing")] // shows `TestRuntime`
    OrchestrationGuide "docs/ORCHESTRATION-GUIDE.md"
    ExternalEvents "docs/external-events.md"
    SubOrchestrations "docs/sub-orchestrations.md"
    ContinueAsNew "docs/continue-as-new.md"
    CrossCrateRegistryPattern "docs/cross-crate-registry-pattern.md"
    Errors "docs/errors.md"
    Architecture "docs/architecture.md"
    PollingAndExecutionModel "docs/polling-and-execution-model.md"
    DesignInvariants "docs/design-invariants.md"
    ProviderImplementationGuide "docs/provider-implementation-guide.md"
}

//! Includes the pages of the book and the README, so that the doctests compile and run their code.
//!
//! Blocks are compiled into one program, in which two blocks may annotate functions of the same name. A block that
//! starts a runtime which discovers its functions must therefore be marked `standalone_crate`.

macro_rules! pages {
    ($($(#[$attribute:meta])* $name:ident $path:literal)*) => {
        $($(#[$attribute])* #[doc = include_str!(concat!("../../", $path))] struct $name;)*
    };
}

pages! {
    Readme "README.md"
    Index "docs/README.md"
    QuickStart "docs/QUICK_START.md"
    OrchestrationGuide "docs/ORCHESTRATION-GUIDE.md"
    #[cfg(feature = "testing")]
    Testing "docs/testing.md"
    ExternalEvents "docs/external-events.md"
    SubOrchestrations "docs/sub-orchestrations.md"
    ContinueAsNew "docs/continue-as-new.md"
    CrossCrateRegistryPattern "docs/cross-crate-registry-pattern.md"
    Errors "docs/errors.md"
    Operations "docs/operations.md"
    Architecture "docs/architecture.md"
    PollingAndExecutionModel "docs/polling-and-execution-model.md"
    DesignInvariants "docs/design-invariants.md"
    LostAnswers "docs/lost-answers.md"
    #[cfg(feature = "conformance")] // shows the conformance suite
    ProviderImplementationGuide "docs/provider-implementation-guide.md"
}

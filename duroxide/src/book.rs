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
    QuickStart "QUICK_START.md"
    OrchestrationGuide "docs/ORCHESTRATION-GUIDE.md"
    #[cfg(feature = "testing")]
    Testing "docs/testing.md"
    #[cfg(feature = "testing")] // replays a recorded history
    Versioning "docs/versioning.md"
    #[cfg(feature = "testing")] // jumps in time
    Troubleshooting "docs/troubleshooting.md"
    ExternalEvents "docs/external-events.md"
    SubOrchestrations "docs/sub-orchestrations.md"
    ContinueAsNew "docs/continue-as-new.md"
    CrossCrateRegistryPattern "docs/cross-crate-registry-pattern.md"
    Errors "docs/errors.md"
    Operations "docs/operations.md"
    Architecture "docs/architecture.md"
    PollingAndExecutionModel "docs/polling-and-execution-model.md"
    #[cfg(feature = "testing")] // replays a history
    DesignInvariants "docs/design-invariants.md"
    LostAnswers "docs/lost-answers.md"
    RuntimeDesign "docs/dtf-runtime-design.md"
    ReliableQueueAndHistory "docs/reliability-queue-and-history.md"
    #[cfg(feature = "testing")] // kills a test runtime
    PointsOfFailure "docs/persistence-failure-analysis.md"
    Scaling "docs/scaling.md"
    ConsistencyGuidelines "docs/consistency-guidelines.md"
    #[cfg(feature = "metrics")]
    ObservabilityGuide "docs/observability-guide.md"
    #[cfg(feature = "metrics")]
    MetricsSpecification "docs/metrics-specification.md"
    #[cfg(feature = "metrics")]
    ActiveOrchestrations "docs/duroxide-active-orchestrations-metric-spec.md"
    TelemetrySpecification "docs/duroxide-telemetry-spec.md"
    #[cfg(feature = "metrics")]
    ProviderObservability "docs/provider-observability.md"
    #[cfg(feature = "metrics")]
    LibraryObservability "docs/library-observability.md"
    ProviderImplementationGuide "docs/provider-implementation-guide.md"
    #[cfg(feature = "conformance")] // shows the conformance suite
    ProviderTestingGuide "docs/provider-testing-guide.md"
}

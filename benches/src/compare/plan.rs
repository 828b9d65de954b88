//! The runs and their order. Runs of one workload follow each other, so that a disk that is slower for a while slows down all
//! of them.

/// One run of one program.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// The workload, and the engine if it is another: `hello`, `hello published full`.
    pub name: &'static str,
    /// The arguments of the program.
    pub arguments: &'static str,
    /// True if the program is the one that runs other engines and the floor.
    pub peer: bool,
    /// True if the program gets a new database on a PostgreSQL server, by `--database`.
    pub postgres: bool,
    /// True if one round is enough, since the run is long and varies little.
    pub once: bool,
    /// True if the run is part of the quick subset.
    quick: bool,
}

const fn ours(name: &'static str, arguments: &'static str) -> Run {
    Run { name, arguments, peer: false, postgres: false, once: false, quick: false }
}

const fn peer(name: &'static str, arguments: &'static str) -> Run {
    Run { peer: true, ..ours(name, arguments) }
}

const fn pg(run: Run) -> Run {
    Run { postgres: true, ..run }
}

const fn quick(run: Run) -> Run {
    Run { quick: true, ..run }
}

const fn once(run: Run) -> Run {
    Run { once: true, ..run }
}

/// All runs. Some engines get a smaller n, since they would take minutes; the rates do not depend on n.
const RUNS: &[Run] = &[
    quick(peer("commits", "floor commits --n 5000")),
    quick(peer("threads", "floor threads --n 20000")),
    quick(ours("hello", "hello --n 5000")),
    quick(peer("hello published default", "published hello --n 500")),
    peer("hello published tuned", "published hello --n 500 --concurrency 8"),
    peer("hello published full", "published hello --n 500 --durability full"),
    quick(peer("hello durare default", "durare hello --n 5000")),
    peer("hello durare full", "durare hello --n 5000 --durability full"),
    quick(ours("latency", "latency --n 1000")),
    quick(peer("commits latency", "floor commits --n 2000")),
    quick(peer("latency published default", "published latency --n 20")),
    peer("latency published full", "published latency --n 20 --durability full"),
    quick(peer("latency durare default", "durare latency --n 500")),
    peer("latency durare full", "durare latency --n 500 --durability full"),
    quick(ours("steps5", "steps5 --n 2000")),
    peer("steps5 published default", "published steps5 --n 200"),
    peer("steps5 published full", "published steps5 --n 200 --durability full"),
    peer("steps5 durare default", "durare steps5 --n 2000"),
    peer("steps5 durare full", "durare steps5 --n 2000 --durability full"),
    quick(ours("chain", "chain --n 1000")),
    quick(peer("commits chain", "floor commits --n 2000")),
    peer("chain published default", "published chain --n 40"),
    peer("chain published full", "published chain --n 40 --durability full"),
    peer("chain durare default", "durare chain --n 1000"),
    peer("chain durare full", "durare chain --n 1000 --durability full"),
    ours("chain10000", "chain --n 10000"),
    quick(ours("fanout500", "fanout --n 500")),
    ours("fanout10000", "fanout --n 10000"),
    peer("fanout500 published default", "published fanout --n 500"),
    peer("fanout500 published full", "published fanout --n 500 --durability full"),
    peer("fanout500 durare default", "durare fanout --n 500"),
    peer("fanout500 durare full", "durare fanout --n 500 --durability full"),
    once(peer("fanout10000 durare default", "durare fanout --n 10000")),
    once(peer("fanout10000 durare full", "durare fanout --n 10000 --durability full")),
    ours("timers", "timers --n 2000"),
    peer("timers published default", "published timers --n 200"),
    peer("timers published full", "published timers --n 200 --durability full"),
    peer("timers durare default", "durare timers --n 2000"),
    peer("timers durare full", "durare timers --n 2000 --durability full"),
    ours("events", "events --n 10000"),
    peer("events published default", "published events --n 500"),
    peer("events published full", "published events --n 500 --durability full"),
    peer("events durare default", "durare events --n 500"),
    peer("events durare full", "durare events --n 500 --durability full"),
    ours("children", "children --n 1000"),
    peer("children published default", "published children --n 200"),
    peer("children published full", "published children --n 200 --durability full"),
    peer("children durare default", "durare children --n 1000"),
    peer("children durare full", "durare children --n 1000 --durability full"),
    quick(peer("disk", "floor disk --n 128")),
    quick(ours("payload", "payload --n 2000")),
    peer("payload published default", "published payload --n 200"),
    peer("payload published full", "published payload --n 200 --durability full"),
    peer("payload durare default", "durare payload --n 1000"),
    peer("payload durare full", "durare payload --n 1000 --durability full"),
    ours("replay", "replay --n 10000"),
    once(peer("replay durare default", "durare replay --n 10000")),
    ours("recovery", "recovery --n 1000"),
    once(peer("recovery published default", "published recovery --n 200")),
    once(peer("recovery durare default", "durare recovery --n 1000")),
    once(ours("idle", "idle --n 10000")),
    once(ours("idle100000", "idle --n 100000")),
    once(peer("idle published default", "published idle --n 1000")),
    once(peer("idle durare default", "durare idle --n 1000")),
    quick(ours("memory", "hello --n 20000 --provider memory")),
    quick(ours("hello slow", "hello --n 2000 --flush-delay 2ms")),
    ours("steps5 slow", "steps5 --n 1000 --flush-delay 2ms"),
    quick(ours("latency slow", "latency --n 200 --flush-delay 2ms")),
    quick(ours("chain slow", "chain --n 500 --flush-delay 2ms")),
    quick(pg(ours("commits pg", "commits --n 2000 --provider postgres"))),
    quick(pg(ours("hello pg", "hello --n 10000 --provider postgres"))),
    pg(peer("hello pg published", "published hello --n 200")),
    pg(peer("hello pg durare", "durare hello --n 2000")),
    quick(pg(ours("steps5 pg", "steps5 --n 2000 --provider postgres"))),
    pg(peer("steps5 pg published", "published steps5 --n 100")),
    pg(peer("steps5 pg durare", "durare steps5 --n 1000")),
    quick(pg(ours("latency pg", "latency --n 500 --provider postgres"))),
    pg(peer("latency pg published", "published latency --n 20")),
    pg(peer("latency pg durare", "durare latency --n 200")),
    quick(pg(ours("chain pg", "chain --n 1000 --provider postgres"))),
    pg(peer("chain pg published", "published chain --n 40")),
    pg(peer("chain pg durare", "durare chain --n 500")),
    quick(pg(ours("elsewhere pg", "elsewhere --n 300 --provider postgres"))),
    pg(ours("timers pg", "timers --n 2000 --provider postgres")),
    pg(peer("timers pg published", "published timers --n 200")),
    pg(peer("timers pg durare", "durare timers --n 1000")),
    pg(ours("events pg", "events --n 5000 --provider postgres")),
    pg(peer("events pg published", "published events --n 200")),
    pg(peer("events pg durare", "durare events --n 500")),
    pg(ours("children pg", "children --n 1000 --provider postgres")),
    pg(peer("children pg published", "published children --n 100")),
    pg(peer("children pg durare", "durare children --n 500")),
    pg(ours("recovery pg", "recovery --n 1000 --provider postgres")),
];

/// Returns the runs of the quick subset or of all, and of the given workloads only.
pub fn plan(quick: bool, only: &[String]) -> Vec<Run> {
    let wanted = |run: &Run| {
        let workload = run.name.split(' ').next().unwrap_or_default();
        let floor = matches!(workload, "commits" | "disk" | "threads");
        let chosen = only.is_empty() || floor || only.iter().any(|only| only == workload);
        chosen && (run.quick || !quick)
    };
    RUNS.iter().copied().filter(wanted).collect()
}

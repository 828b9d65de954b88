-- The host, the process and the start of a node, for people.
ALTER TABLE nodes ADD COLUMN host text COLLATE "C", ADD COLUMN process bigint, ADD COLUMN started_at bigint;

-- Nodes that are no longer members, in the order in which they departed: the newest ones.
CREATE TABLE departed (
    number         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    epoch          bigint NOT NULL,
    left_at        bigint NOT NULL,
    seen_at        bigint NOT NULL,                  -- its last sign of life
    cause          text COLLATE "C" NOT NULL,        -- left, died, silent or fenced
    id             uuid NOT NULL,
    name           text COLLATE "C" NOT NULL,
    build          text COLLATE "C" NOT NULL,
    orchestrations text COLLATE "C" NOT NULL,
    activities     text COLLATE "C" NOT NULL,
    tags           text COLLATE "C",
    lease          bigint NOT NULL,
    host           text COLLATE "C",
    process        bigint,
    started_at     bigint
);

-- The builds that nodes had.
CREATE TABLE builds (
    build          text COLLATE "C" PRIMARY KEY,
    seen           bigint NOT NULL,                  -- grows with each join and departure of a node with a build
    first_seen     bigint NOT NULL,
    last_seen      bigint NOT NULL,
    orchestrations text COLLATE "C" NOT NULL,        -- JSON: [[name, version], ..]
    code           text COLLATE "C" NOT NULL         -- JSON: see `BuildCode`
);

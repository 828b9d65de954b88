//! The queue of activities without an owner, as statements read it.
//!
//! Activities with a tag that no node serves may pile up: no statement that looks for others may pass them. The index of the
//! queue orders it by name, tag and time. A node reads the range of the activities without a tag, and one range for each tag
//! that it serves. A node that serves all tags reads those with a tag in the order of their times, from an index of their own:
//! there may be many tags.

/// Selects activities `a` of a name from the queue, or from that of the quarantined ones, which a node with these tags serves:
/// of each range the first ones, by their time. `$tagged`: false if there are none with a tag, whose ranges are then left out.
///
/// An empty tag stands for none; activities have no empty tag. The ranges by tag compare an expression, so that no plan can
/// read them from the index of all tags.
macro_rules! free_activities {
    ($columns:literal, $name:literal, $tags:literal, $tagged:literal, $condition:expr, $limit:literal) => {
        concat!(
            "(SELECT x.* FROM unnest(CASE WHEN ",
            $tagged,
            " THEN array_prepend('', ",
            $tags,
            "::text[]) ELSE '{\"\"}' END) AS g (tag) CROSS JOIN LATERAL (
                 SELECT ",
            $columns,
            " FROM activities a
                 WHERE a.owner IS NULL AND NOT a.parked AND a.name = ",
            $name,
            " AND coalesce(a.tag, '') = g.tag AND ",
            $condition,
            " ORDER BY a.ready_at LIMIT ",
            $limit,
            ") x)
             UNION ALL
             (SELECT ",
            $columns,
            " FROM activities a
              WHERE ",
            $tags,
            "::text[] IS NULL AND ",
            $tagged,
            " AND a.owner IS NULL AND NOT a.parked AND a.name = ",
            $name,
            " AND a.tag IS NOT NULL AND ",
            $condition,
            " ORDER BY a.ready_at LIMIT ",
            $limit,
            ")"
        )
    };
}
pub(crate) use free_activities;

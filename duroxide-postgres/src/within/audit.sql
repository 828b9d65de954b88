-- Writes an entry of the audit, unless it was written before.
INSERT INTO SCHEMA.audit (id, time, actor, via, action, instance, reason, detail, batch)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::text::uuid) ON CONFLICT (id) DO NOTHING RETURNING 'written'

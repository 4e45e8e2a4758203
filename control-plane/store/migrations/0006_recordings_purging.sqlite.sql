-- Of recordings that retention has deleted: those whose content isn't known to be gone, for whoever goes on after a crash.
CREATE INDEX recordings_purging ON recordings (id) WHERE state = 'purged' AND purged_at_ms IS NULL;

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { keepAlive, systemClock } from '../../kit/clock.ts';
import { killQuietly } from './disk-children.ts';
import { readDisks } from './disk-readings.ts';
import { PidFile } from './pid-file.ts';

/**
 * `main.ts '{"folder": ..., "devices": [...], "smartctl": ..., "timeoutMs": ..., "nvmeReader": [...]}'` (as in
 * DiskReadingsOptions): what these disks say of themselves, a line of JSON each (DiskReading) as soon as it is known. Ends
 * by itself, and asks no disk with its own hands, so that SIGKILL always ends it. One at a time in a folder: a reader of an
 * agent that was killed is ended first.
 */
const options = JSON.parse(process.argv[2] ?? '{}');
using _ = keepAlive();
mkdirSync(options.folder, { recursive: true, mode: 0o700 });
const record = new PidFile(join(options.folder, 'reader'));
const former = record.living();
if (former !== undefined) killQuietly(former);
record.write(process.pid);
await readDisks({ clock: systemClock, ...options }, (reading) => process.stdout.write(`${JSON.stringify(reading)}\n`));
record.remove();

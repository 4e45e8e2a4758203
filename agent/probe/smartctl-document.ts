import { type DiskHealth, SMART } from './disk-health.ts';

/**
 * What smartctl prints with --json, as values of ours. Of the vendor's own attributes only those count that smartctl's
 * database calls what we take them for: numbers alone mean something else from one vendor to the next.
 */
export interface SmartctlResult {
	readonly health: DiskHealth;
	readonly why: string;
	/** Of one without SMART: the disk said so itself. */
	readonly isItsWord?: boolean;
}

type Json = Readonly<Record<string, unknown>>;

/** Bits of its exit status: the command line, opening the device. Those above are about what the disk said. */
const NOT_ASKED = 0x01;
const NOT_OPENED = 0x02;
const WHY_LENGTH_MAX = 200;
const HOUR_SECONDS = 3600;

/** Attributes of ATA by number, each with the names that its database gives to this meaning. */
const SECTORS: readonly (readonly [id: number, name: RegExp, key: 'reallocated' | 'pending' | 'uncorrectable'])[] = [
	[5, /^(re-?alloc|retired_block|reassigned|new_bad_block|bad_block)/i, 'reallocated'],
	[197, /pending/i, 'pending'],
	[198, /uncorrect/i, 'uncorrectable'],
];
/** Whose normalised value is the percentage of life that is left. */
const LIFE_LEFT: readonly (readonly [id: number, name: RegExp])[] = [
	[231, /^ssd_life_left$/i],
	[233, /^media_wearout_indicator$/i],
	[177, /^wear_leveling_count$/i],
	[202, /^percent_lifetime_remain$/i],
];

export function parseSmartctl(stdout: string): SmartctlResult {
	const document = parse(stdout);
	if (document === undefined)
		return none(SMART.failed, 'smartctl printed no JSON: older than smartmontools 7.0, or it failed');
	const status = numberOf(objectOf(document['smartctl'])?.['exit_status']) ?? 0;
	const messages = messagesOf(document);
	// It ends with the same status when a disk sleeps and when there is none: only its words tell.
	if (messages.some((message) => /^Device is in .*(STANDBY|SLEEP)/.test(message)))
		return none(SMART.asleep, 'the disk sleeps, and is not woken');
	if ((status & NOT_ASKED) !== 0) return none(SMART.none, messages[0] ?? 'smartctl does not know this kind of device');
	if ((status & NOT_OPENED) !== 0) return none(SMART.failed, messages[0] ?? 'the device could not be opened');
	const support = objectOf(document['smart_support']);
	if (support?.['available'] === false) return withoutSmart('the device has no SMART');
	if (support?.['enabled'] === false) return withoutSmart('SMART is switched off on the disk');
	const values = valuesOf(document);
	if (Object.keys(values).length === 0) {
		const why = messages[0] ?? 'the device, or what is before it, passes no SMART on';
		return support === undefined ? none(SMART.none, why) : withoutSmart(why);
	}
	return { health: { smart: SMART.read, ...values }, why: '' };
}

function valuesOf(document: Json): Omit<DiskHealth, 'smart'> {
	const passed = objectOf(document['smart_status'])?.['passed'];
	const hours = numberOf(objectOf(document['power_on_time'])?.['hours']);
	const attributes = attributesOf(document);
	return known({
		passed: typeof passed === 'boolean' ? Number(passed) : undefined,
		wear: wearOf(document, attributes),
		mediaErrors: scsiErrorsOf(document),
		...sectorsOf(document, attributes),
		powerOnSeconds: hours === undefined ? undefined : hours * HOUR_SECONDS,
		errorsLogged: errorsLoggedOf(document),
		temperature: numberOf(objectOf(document['temperature'])?.['current'], -100),
	});
}

interface Attribute {
	readonly id: number;
	readonly name: string;
	readonly value: number | undefined;
	readonly raw: number | undefined;
}

function attributesOf(document: Json): readonly Attribute[] {
	const table = objectOf(document['ata_smart_attributes'])?.['table'];
	if (!Array.isArray(table)) return [];
	return table.flatMap((row): readonly Attribute[] => {
		const { id, name, value, raw } = objectOf(row) ?? {};
		if (typeof id !== 'number' || typeof name !== 'string') return [];
		return [{ id, name, value: numberOf(value), raw: rawOf(objectOf(raw)) }];
	});
}

/** As text it is what the database makes of the six bytes ("8 (0 3)"): as a number they may hold several counts. */
function rawOf(raw: Json | undefined): number | undefined {
	const text = raw?.['string'];
	const first = typeof text === 'string' ? /^\d+/.exec(text)?.[0] : undefined;
	return first === undefined ? numberOf(raw?.['value']) : numberOf(Number(first));
}

function sectorsOf(document: Json, attributes: readonly Attribute[]) {
	const pending = document['scsi_pending_defects'];
	return {
		// SCSI: defects that came after it left the factory.
		reallocated: numberOf(document['scsi_grown_defect_list']),
		pending: numberOf(objectOf(pending)?.['count'] ?? pending),
		...Object.fromEntries(
			SECTORS.flatMap(([id, name, key]) =>
				attributes.filter((one) => one.id === id && name.test(one.name)).map(({ raw }) => [key, raw]),
			),
		),
	};
}

function wearOf(document: Json, attributes: readonly Attribute[]): number | undefined {
	const used =
		numberOf(objectOf(document['endurance_used'])?.['current_percent']) ??
		numberOf(document['scsi_percentage_used_endurance_indicator']);
	if (used !== undefined) return used / 100;
	for (const [id, name] of LIFE_LEFT) {
		const left = attributes.find((one) => one.id === id && name.test(one.name))?.value;
		if (left !== undefined && left <= 100) return (100 - left) / 100;
	}
	return undefined;
}

/** What could not be read or written, of the three logs that a SAS disk keeps. */
function scsiErrorsOf(document: Json): number | undefined {
	const log = objectOf(document['scsi_error_counter_log']);
	const counts = ['read', 'write', 'verify']
		.map((kind) => numberOf(objectOf(log?.[kind])?.['total_uncorrected_errors']))
		.filter((count) => count !== undefined);
	return counts.length === 0 ? undefined : counts.reduce((sum, count) => sum + count, 0);
}

function errorsLoggedOf(document: Json): number | undefined {
	const log = objectOf(document['ata_smart_error_log']);
	return numberOf(objectOf(log?.['extended'])?.['count']) ?? numberOf(objectOf(log?.['summary'])?.['count']);
}

function messagesOf(document: Json): readonly string[] {
	const messages = objectOf(document['smartctl'])?.['messages'];
	if (!Array.isArray(messages)) return [];
	return messages.flatMap((message) => {
		const text = objectOf(message)?.['string'];
		return typeof text === 'string' ? [text.slice(0, WHY_LENGTH_MAX)] : [];
	});
}

function parse(stdout: string): Json | undefined {
	try {
		return objectOf(JSON.parse(stdout));
	} catch {
		return undefined;
	}
}

function objectOf(value: unknown): Json | undefined {
	return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : undefined;
}

function numberOf(value: unknown, min = 0): number | undefined {
	return typeof value === 'number' && Number.isFinite(value) && value >= min ? value : undefined;
}

function none(smart: number, why: string): SmartctlResult {
	return { health: { smart }, why };
}

/** smartctl has it from what the device identified itself with. */
function withoutSmart(why: string): SmartctlResult {
	return { ...none(SMART.none, why), isItsWord: true };
}

function known(values: Readonly<Record<string, number | undefined>>): Omit<DiskHealth, 'smart'> {
	return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
}

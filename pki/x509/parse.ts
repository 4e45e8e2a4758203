import { hex } from '../../kit/ids.ts';
import { keyIdOf } from '../verify/signature.ts';
import { bitStringBytes, DerError, DerReader, integerHex, oidText, TAG, type Tlv, timeMs } from './der.ts';

/**
 * Reads a certificate from its raw DER (RFC 5280 section 4). It decides nothing: OpenSSL validates the path in TLS,
 * trust/identity.ts judges what is read here. Anything that isn't strict DER, carries an extension twice, or has a
 * name with bytes outside printable ASCII is malformed, so that our reading can't differ from OpenSSL's.
 */
export type KeyUsage =
	| 'digitalSignature'
	| 'contentCommitment'
	| 'keyEncipherment'
	| 'dataEncipherment'
	| 'keyAgreement'
	| 'keyCertSign'
	| 'cRLSign'
	| 'encipherOnly'
	| 'decipherOnly';

const KEY_USAGE: readonly KeyUsage[] = [
	'digitalSignature',
	'contentCommitment',
	'keyEncipherment',
	'dataEncipherment',
	'keyAgreement',
	'keyCertSign',
	'cRLSign',
	'encipherOnly',
	'decipherOnly',
];

export interface ParsedCertificate {
	/** Lower-case hex, even length. */
	readonly serialHex: string;
	readonly spki: Uint8Array;
	/** The key id of the subject's key. */
	readonly spkiSha256Hex: string;
	/** Authority key identifier; in our certificates the issuer's key id. Empty when absent. */
	readonly issuerKeyIdHex: string;
	/** Subject key identifier; empty when absent. */
	readonly subjectKeyIdHex: string;
	readonly uriSans: readonly string[];
	readonly dnsSans: readonly string[];
	/** How many subject alternative names of whatever type. */
	readonly sanCount: number;
	readonly notBeforeMs: number;
	readonly notAfterMs: number;
	readonly isCa: boolean;
	readonly keyUsage: ReadonlySet<KeyUsage>;
	/** Dotted OIDs. */
	readonly ekus: readonly string[];
	/** The DER that the issuer signed. */
	readonly tbs: Uint8Array;
	readonly signature: Uint8Array;
	readonly signatureAlgorithm: string;
}

export type ParseResult =
	| { readonly kind: 'ok'; readonly certificate: ParsedCertificate }
	| { readonly kind: 'malformed'; readonly detail: string };

/** Our certificates have less than 1 KiB. */
const CERTIFICATE_BYTES_MAX = 16 * 1024;

export function parseCertificate(raw: Uint8Array): ParseResult {
	try {
		if (raw.length > CERTIFICATE_BYTES_MAX) throw new DerError(`longer than ${CERTIFICATE_BYTES_MAX} bytes`);
		return { kind: 'ok', certificate: readCertificate(raw) };
	} catch (error) {
		if (error instanceof DerError) return { kind: 'malformed', detail: error.message };
		throw error;
	}
}

function readCertificate(raw: Uint8Array): ParsedCertificate {
	const outer = new DerReader(raw);
	const certificate = outer.enter(TAG.sequence);
	outer.end();
	const tbs = certificate.next(TAG.sequence);
	const algorithm = certificate.next(TAG.sequence);
	const signature = bitStringBytes(certificate.next(TAG.bitString));
	certificate.end();

	const fields = new DerReader(tbs.content);
	const version = fields.enter(0xa0).next(TAG.integer);
	if (version.content.length !== 1 || version.content[0] !== 2) throw new DerError('not an X.509 v3 certificate');
	const serialHex = integerHex(fields.next(TAG.integer).content);
	if (hex(fields.next(TAG.sequence).raw) !== hex(algorithm.raw)) {
		throw new DerError('signature algorithm inside and outside differ');
	}
	fields.next(TAG.sequence); // issuer name: identity is by key id, never by name
	const validity = fields.enter(TAG.sequence);
	const notBeforeMs = timeMs(validity.next());
	const notAfterMs = timeMs(validity.next());
	validity.end();
	fields.next(TAG.sequence); // subject name
	const spki = fields.next(TAG.sequence).raw;
	fields.optional(0x81);
	fields.optional(0x82);
	const extensions = readExtensions(fields);
	fields.end();
	return {
		serialHex,
		spki,
		spkiSha256Hex: keyIdOf(spki),
		...extensions,
		notBeforeMs,
		notAfterMs,
		tbs: tbs.raw,
		signature,
		signatureAlgorithm: oidText(new DerReader(algorithm.content).next(TAG.oid).content),
	};
}

type Extensions = Pick<
	ParsedCertificate,
	'issuerKeyIdHex' | 'subjectKeyIdHex' | 'uriSans' | 'dnsSans' | 'sanCount' | 'isCa' | 'keyUsage' | 'ekus'
>;

function readExtensions(fields: DerReader): Extensions {
	const found = new Map<string, DerReader>();
	if (fields.peek() === 0xa3) {
		const wrapper = fields.enter(0xa3);
		const list = wrapper.enter(TAG.sequence);
		wrapper.end();
		while (!list.done) {
			const extension = list.enter(TAG.sequence);
			const oid = hex(extension.next(TAG.oid).content);
			extension.optional(TAG.boolean);
			const value = extension.next(TAG.octetString).content;
			extension.end();
			if (found.has(oid)) throw new DerError(`extension ${oid} appears twice`);
			found.set(oid, new DerReader(value));
		}
	}
	return {
		subjectKeyIdHex: readSubjectKeyId(found.get('551d0e')),
		keyUsage: readKeyUsage(found.get('551d0f')),
		...readNames(found.get('551d11')),
		isCa: readIsCa(found.get('551d13')),
		issuerKeyIdHex: readIssuerKeyId(found.get('551d23')),
		ekus: readEkus(found.get('551d25')),
	};
}

function readSubjectKeyId(value: DerReader | undefined): string {
	if (!value) return '';
	const id = hex(value.next(TAG.octetString).content);
	value.end();
	return id;
}

function readIssuerKeyId(value: DerReader | undefined): string {
	const id = value?.enter(TAG.sequence).optional(0x80);
	value?.end();
	return id ? hex(id.content) : '';
}

function readIsCa(value: DerReader | undefined): boolean {
	const flag = value?.enter(TAG.sequence).optional(TAG.boolean);
	value?.end();
	return flag !== undefined && flag.content[0] !== 0;
}

function readKeyUsage(value: DerReader | undefined): ReadonlySet<KeyUsage> {
	const usages = new Set<KeyUsage>();
	if (!value) return usages;
	const bits = value.next(TAG.bitString).content.subarray(1);
	value.end();
	for (const [index, usage] of KEY_USAGE.entries()) {
		if (((bits[index >> 3] ?? 0) & (0x80 >> (index & 7))) !== 0) usages.add(usage);
	}
	return usages;
}

function readEkus(value: DerReader | undefined): readonly string[] {
	const ekus: string[] = [];
	const list = value?.enter(TAG.sequence);
	value?.end();
	while (list && !list.done) ekus.push(oidText(list.next(TAG.oid).content));
	return ekus;
}

function readNames(value: DerReader | undefined): Pick<Extensions, 'uriSans' | 'dnsSans' | 'sanCount'> {
	const uriSans: string[] = [];
	const dnsSans: string[] = [];
	let sanCount = 0;
	const list = value?.enter(TAG.sequence);
	value?.end();
	while (list && !list.done) {
		const name = list.next();
		sanCount += 1;
		if (name.tag === 0x86) uriSans.push(asciiText(name));
		else if (name.tag === 0x82) dnsSans.push(asciiText(name));
	}
	return { uriSans, dnsSans, sanCount };
}

function asciiText(name: Tlv): string {
	let text = '';
	for (const byte of name.content) {
		if (byte <= 0x20 || byte >= 0x7f) throw new DerError('a name has bytes outside printable ASCII');
		text += String.fromCharCode(byte);
	}
	return text;
}

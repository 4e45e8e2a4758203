import { EnrollConnection, findPinnedRoot } from '../../agent/identity/enroll-connection.ts';
import { enrollHelloTranscript, enrollProofDigest } from '../../pki/keys/enroll-transcript.ts';
import { joinTokenSigner, parseJoinToken } from '../../pki/keys/join-token.ts';
import { generateNodeKey, type NodeKey } from '../../pki/keys/node-key.ts';
import { createCsr } from '../../pki/x509/csr.ts';
import {
	type BeginEnrollmentResponse,
	type CompleteEnrollmentResponse,
	EnrollmentService,
} from '../../proto/gen/gpuaas/enrollment/v1/enrollment_pb.ts';

/** A joiner that does each step when told to, and may do it wrongly: what `enroll` never would. */
export class RawJoiner implements Disposable {
	readonly key: NodeKey;
	readonly connection: EnrollConnection;
	readonly #token: { readonly id: string; readonly secret: Uint8Array };

	static async connect(address: string, text: string, key = generateNodeKey()): Promise<RawJoiner> {
		const parsed = parseJoinToken(text);
		if (parsed.kind === 'refused') throw new Error(parsed.message);
		const { trustDomain, caPins } = parsed.token;
		const rootsPem = await findPinnedRoot(address, trustDomain, caPins);
		return new RawJoiner(await EnrollConnection.open({ address, trustDomain, rootsPem }), parsed.token, key);
	}

	private constructor(connection: EnrollConnection, token: { id: string; secret: Uint8Array }, key: NodeKey) {
		this.connection = connection;
		this.#token = token;
		this.key = key;
	}

	begin(wrong: { readonly csr?: Uint8Array; readonly exporter?: Uint8Array; readonly secret?: Uint8Array } = {}) {
		const { id, secret } = this.#token;
		const csr = wrong.csr ?? createCsr(this.key.signer);
		const exporter = wrong.exporter ?? this.connection.exporter;
		const transcript = enrollHelloTranscript({ exporter, tokenId: id, csrDer: csr });
		const signature = joinTokenSigner(wrong.secret ?? secret).signSync(transcript);
		return this.connection.call(EnrollmentService.method.beginEnrollment, {
			credential: { case: 'joinToken', value: { tokenId: id, signature } },
			csr,
			facts: { hostname: 'raw' },
		});
	}

	complete(
		{ challengeId, nonce }: Pick<BeginEnrollmentResponse, 'challengeId' | 'nonce'>,
		on: EnrollConnection = this.connection,
		nonceSigned: Uint8Array = nonce,
	): Promise<CompleteEnrollmentResponse> {
		const spkiSha256 = new Uint8Array(Buffer.from(this.key.signer.keyId, 'hex'));
		const digest = enrollProofDigest({ nonce: nonceSigned, exporter: on.exporter, spkiSha256 });
		const signature = joinTokenSigner(this.#token.secret).signSync(digest);
		return on.call(EnrollmentService.method.completeEnrollment, { challengeId, signature });
	}

	[Symbol.dispose](): void {
		this.connection[Symbol.dispose]();
	}
}

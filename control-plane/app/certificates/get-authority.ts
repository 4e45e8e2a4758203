import { create } from '@bufbuild/protobuf';
import { present } from '../../../kit/assert.ts';
import {
	CertificateService,
	GetCertificateAuthorityResponseSchema,
} from '../../../proto/gen/gpuaas/certificates/v1/certificates_pb.ts';
import { query } from '../use-case.ts';
import { decodeDocument } from './document.ts';
import { laggardNames } from './laggards.ts';
import { authorityMessage } from './view.ts';

export const getCertificateAuthority = query('platform', CertificateService.method.getCertificateAuthority, {
	*read(tx) {
		const row = present(yield* tx.authority.get(), 'an authority is made before anything is served');
		const document = decodeDocument(row.document);
		return { document, laggards: yield* laggardNames(tx, document.rotation) };
	},
	answer({ deps, nowMs }, { document, laggards }) {
		const { selfRotation } = deps.limits;
		const authority = authorityMessage(document, laggards, { selfRotation, nowMs });
		return create(GetCertificateAuthorityResponseSchema, { authority });
	},
});

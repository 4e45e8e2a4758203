import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type Token, TokenSchema, TokenState } from '../../../proto/gen/gpuaas/tokens/v1/tokens_pb.ts';
import type { JoinTokenRow } from '../../store/port/join-tokens.ts';

const STATE: Readonly<Record<JoinTokenRow['state'], TokenState>> = {
	unused: TokenState.UNUSED,
	used: TokenState.USED,
	revoked: TokenState.REVOKED,
	burned: TokenState.BURNED,
};

export function tokenMessage(row: JoinTokenRow, nowMs: number): Token {
	const expired = row.state === 'unused' && row.expiresAtMs <= nowMs;
	return create(TokenSchema, {
		id: row.id,
		state: expired ? TokenState.EXPIRED : STATE[row.state],
		nodeName: row.nodeName,
		labels: { ...row.labels },
		expectedSerial: row.expectedSerial,
		createdAt: timestampFromMs(row.createdAtMs),
		expiresAt: timestampFromMs(row.expiresAtMs),
		createdBy: row.createdBy,
		nodeId: row.nodeId ?? '',
	});
}

import type { TaskDocumentsRow, Tasks } from '../port/tasks.ts';
import { snake } from './columns.ts';
import type { Compiler } from './compiler.ts';
import { TASK_DOCUMENTS } from './schema.ts';

export function taskDocumentsTable(compiler: Compiler): Pick<Tasks, 'putDocuments' | 'getDocuments'> {
	const insert = compiler.insert(TASK_DOCUMENTS);
	const documents = TASK_DOCUMENTS.fields.map(snake).filter((column) => column !== 'task_id' && column !== 'attempt');
	const merge = ` on conflict (task_id, attempt) do update set ${documents
		.map((column) => `${column} = coalesce(excluded.${column}, task_documents.${column})`)
		.join(', ')}`;
	const get = compiler.prepare<{ taskId: string; attempt: number }>((db, slot) =>
		db
			.selectFrom('task_documents')
			.select(TASK_DOCUMENTS.columns)
			.where('task_id', '=', slot('taskId'))
			.where('attempt', '=', slot('attempt')),
	);
	return {
		*putDocuments(row) {
			const whole: TaskDocumentsRow = {
				envelope: null,
				receipt: null,
				closing: null,
				nodeCertificate: null,
				signerCertificate: null,
				...row,
			};
			const { sql, parameters } = insert(whole);
			yield { sql: sql + merge, parameters };
		},
		*getDocuments(taskId, attempt) {
			return TASK_DOCUMENTS.first(yield get({ taskId, attempt }));
		},
	};
}

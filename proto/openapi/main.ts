import { createEcmaScriptPlugin, getComments, runNodeJs } from '@bufbuild/protoplugin';
import { openApiDocument } from './document.ts';

/**
 * A buf plugin that writes proto/openapi.json (OpenAPI 3.1): every unary method that people and programs may call, as
 * the Connect protocol serves it with JSON. Run by proto/generate.ts; the file is committed and CI diffs it.
 */
runNodeJs(
	createEcmaScriptPlugin({
		name: 'protoc-gen-gpuaas-openapi',
		version: 'v1',
		generateTs(schema) {
			const document = openApiDocument(schema.files, (desc) =>
				(getComments(desc).leading ?? '').replaceAll(/^ /gm, '').trim(),
			);
			schema.generateFile('openapi.json').print(JSON.stringify(document, null, 2));
		},
	}),
);

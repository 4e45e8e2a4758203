import ts from 'typescript-api';

/** Text of a TypeScript file in which every relative path to a `.ts` file names the `.js` file that it becomes. */
export interface Rewritten {
	readonly text: string;
	/** Relative paths of modules that it loads, as rewritten. */
	readonly modules: readonly string[];
	/** Places where a `.ts` file is named in a way that can't be rewritten safely. */
	readonly problems: readonly string[];
}

const RELATIVE_TS = /^\.{1,2}\/.*\.ts$/;

/**
 * Rewrites string literals `./x.ts` and `../x.ts`: in imports, exports, dynamic imports and also in
 * `new URL('../agent/main.ts', import.meta.url)`, which is how programs are started by path. Same length, so the
 * columns of stack traces stay.
 */
export function rewriteSpecifiers(fileName: string, source: string): Rewritten {
	const file = ts.createSourceFile(fileName, source, ts.ScriptTarget.ESNext, true);
	const ends: number[] = [];
	const modules: string[] = [];
	const problems: string[] = [];
	const visit = (node: ts.Node): void => {
		// A bare '.ts' asks which form this is.
		if (ts.isStringLiteralLike(node) && node.text.endsWith('.ts') && node.text !== '.ts') {
			if (RELATIVE_TS.test(node.text)) {
				ends.push(node.getEnd() - 1);
				if (isModuleSpecifier(node)) modules.push(`${node.text.slice(0, -3)}.js`);
			} else {
				const { line } = file.getLineAndCharacterOfPosition(node.getStart());
				problems.push(
					`${fileName}:${line + 1}: write '${node.text}' as a path relative to this file ('./...'), or packaging can't follow it`,
				);
			}
		}
		ts.forEachChild(node, visit);
	};
	visit(file);
	let text = '';
	let from = 0;
	for (const end of ends) {
		text += `${source.slice(from, end - 3)}.js`;
		from = end;
	}
	return { text: text + source.slice(from), modules, problems };
}

function isModuleSpecifier(node: ts.Node): boolean {
	const { parent } = node;
	if (ts.isImportDeclaration(parent)) return parent.importClause?.phaseModifier !== ts.SyntaxKind.TypeKeyword;
	if (ts.isExportDeclaration(parent)) return !parent.isTypeOnly;
	return ts.isCallExpression(parent) && parent.expression.kind === ts.SyntaxKind.ImportKeyword;
}

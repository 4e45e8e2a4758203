/** A page in ascending id order: rows with `id` > `afterId`, at most `limit`. */
export interface Page {
	readonly afterId: string;
	readonly limit: number;
}

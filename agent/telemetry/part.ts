/** The values of one thing in the order of its table in proto/telemetry-schema. */
export interface Part {
	readonly id: string;
	readonly index: number;
	readonly values: Float64Array;
}

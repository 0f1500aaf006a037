/** A value at a time. */
export type Point = readonly [at: number, value: number];

/** Of the line with the least squares: by how much the value grows in a unit of time. */
export function slopeOf(points: readonly Point[]): number {
  const mean = (pick: 0 | 1): number => points.reduce((sum, point) => sum + point[pick], 0) / points.length;
  const [at, value] = [mean(0), mean(1)];
  let covariance = 0;
  let variance = 0;
  for (const [x, y] of points) {
    covariance += (x - at) * (y - value);
    variance += (x - at) ** 2;
  }
  return covariance / variance;
}

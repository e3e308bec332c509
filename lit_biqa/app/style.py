"""Style sheet of the page, in the colours of gradio's theme, so that it follows light and dark."""

CSS = """
#results h3, #results h4 { margin: 0.4rem 0; }
#download { max-width: 12rem; }
.lead { font-size: 1.1rem; margin: 0.2rem 0; }
.small { font-size: 0.85rem; opacity: 0.75; margin: 0; }
.picture { border: 1px solid var(--border-color-primary); border-radius: 8px; margin: 6px 0; }
.picture summary { display: flex; align-items: center; gap: 12px; padding: 8px; cursor: pointer; }
.picture summary img { width: 64px; height: 48px; object-fit: cover; border-radius: 4px; }
.picture .name { flex: 1 1 8rem; overflow-wrap: anywhere; }
.picture .score { font-weight: 600; font-variant-numeric: tabular-nums; }
.picture .level { min-width: 4.5rem; opacity: 0.75; }
.picture .bar { flex: 0 1 7rem; height: 8px; background: var(--border-color-primary);
  border-radius: 4px; overflow: hidden; }
.picture .bar span { display: block; height: 100%; background: var(--color-accent); }
.picture > p { margin: 0 8px 4px; }
.picture table { width: calc(100% - 16px); margin: 0 8px 8px; border-collapse: collapse;
  border: none !important; }
.picture tr { border: none !important; }
.picture th, .picture td { text-align: left; vertical-align: top; padding: 4px 8px;
  border: none; border-top: 1px solid var(--border-color-primary); }
.picture td p { margin: 2px 0 0; opacity: 0.75; }
.variants figure { margin: 0; }
.variants figure[hidden] { display: none; }
.variants img { width: 100%; max-height: 420px; object-fit: contain; }
.variants figcaption { margin: 6px 0; }
.variants svg { width: 100%; max-width: 480px; }
.variants svg line { stroke: var(--border-color-primary); }
.variants svg text { font-size: 10px; fill: var(--body-text-color-subdued); }
.variants svg polyline { fill: none; stroke: var(--color-accent); stroke-width: 2; }
.variants svg circle { fill: var(--color-accent); }
@media (max-width: 600px) {
  .picture .bar { display: none; }
  .picture .level { min-width: 0; }
}
.written p { white-space: pre-wrap; overflow-wrap: anywhere; }
"""

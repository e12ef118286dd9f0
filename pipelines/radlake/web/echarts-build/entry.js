// The part of Apache ECharts that the pages use; everything else is left out of the bundle.
import { BarChart, CustomChart, LineChart } from 'echarts/charts';
import { GridComponent, TooltipComponent } from 'echarts/components';
import { init, use } from 'echarts/core';
import { CanvasRenderer, SVGRenderer } from 'echarts/renderers';

use([BarChart, CustomChart, LineChart, GridComponent, TooltipComponent, CanvasRenderer, SVGRenderer]);

export { init };

"""The second half of `telemetry run`: watch the processes to their end, then audit what they left."""

from contextlib import closing

from services.brokers.choice import operator_side
from services.contract.errors import BrokerUnavailable
from services.ops.audit.command import prove, show_audit
from services.ops.failures import CommandFailed
from services.ops.output.output import remark
from services.ops.run.pipeline import Pipeline
from services.ops.run.processes import Processes, RunFailed
from services.runtime.settings import ConsumerSettings


def watch_and_prove(
    processes: Processes, settings: ConsumerSettings, *, show_logs: bool, as_json: bool
) -> bool:
    """Show what flows until all is settled, then the audit; tells whether it proves that nothing is missing.

    Raises CommandFailed when the pipeline can't run.
    """
    try:
        with closing(operator_side(settings)) as broker:
            broker.greet()
            Pipeline(processes, settings, broker, show_logs=show_logs).run()
        result = prove(settings)
    except RunFailed as error:
        raise CommandFailed(str(error), error.exit_code, error.details) from None
    except BrokerUnavailable as error:
        raise CommandFailed(str(error), 2) from error
    show_audit(result, as_json=as_json)
    remark(*result.problems)
    return result.is_proven

"""The second half of `telemetry run`: watch the processes to their end, then audit what they left."""

from contextlib import closing

from services.brokers.choice import operator_side
from services.contract.errors import BrokerUnavailable
from services.ops.audit.command import show_audit
from services.ops.audit.proving import prove
from services.ops.failures import CommandFailed
from services.ops.output.output import remark
from services.ops.run.file_account import read_account
from services.ops.run.pipeline import Pipeline
from services.ops.run.processes import Processes, RunFailed
from services.runtime.settings import ConsumerSettings


def watch_and_prove(
    processes: Processes, settings: ConsumerSettings, *, show_logs: bool, as_json: bool
) -> bool:
    """Show what flows until all is settled, then the audit, and the account of a file that was published.

    Tells whether nothing is missing, and nothing of the file either.

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
    account = read_account(processes.producer.log)
    show_audit(result, as_json=as_json, file=None if account is None else account.as_record())
    remark(*result.problems)
    if account is None:
        return result.is_proven
    remark(*account.lines())
    return result.is_proven and not account.failures
